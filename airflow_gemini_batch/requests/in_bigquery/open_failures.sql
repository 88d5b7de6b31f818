-- The number of retryable failures per job, and per round that has claimed them.
{% include "requests/in_bigquery/failed_since.sql" %}

SELECT
  failures.job_name,
  {% if claims %}
  claims.round,
  ANY_VALUE(claims.owner) AS owner,
  ANY_VALUE(claims.project) AS project,
  ANY_VALUE(claims.location) AS location,
  ANY_VALUE(claims.model) AS model,
  ANY_VALUE(claims.output_uri) AS output_uri,
  ANY_VALUE(claims.job_name) AS round_job_name,
  TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), MAX(claims.claimed_at), SECOND) AS age_seconds,
  {% endif %}
  COUNT(*) AS requests
FROM (
{% include "requests/in_bigquery/failures.sql" %}
) AS failures
{% if claims %}
{% include "requests/in_bigquery/claims_of_failures.sql" %}
GROUP BY failures.job_name, claims.round
{% else %}
GROUP BY failures.job_name
{% endif %}
