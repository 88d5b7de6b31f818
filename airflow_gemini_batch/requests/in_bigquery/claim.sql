-- Claims open failures for a round, and builds the input of its job from what the round has claimed.
{% include "requests/in_bigquery/failed_since.sql" %}

{% from "requests/in_bigquery/columns.jinja" import label_of %}
INSERT INTO {{claims.quoted}} (round, claimed_at)
SELECT '', CURRENT_TIMESTAMP()
FROM (SELECT 1)
WHERE NOT EXISTS (SELECT 1 FROM {{claims.quoted}} WHERE round = '');

BEGIN TRANSACTION;

-- Transactions conflict only if both change existing rows: all of them change this one. BigQuery then cancels
-- one of two claims that overlap in time, and it runs again.
UPDATE {{claims.quoted}} SET claimed_at = CURRENT_TIMESTAMP() WHERE round = '';

-- Checked here once more, as the owner may have renewed its claim.
DELETE FROM {{claims.quoted}}
WHERE
  round IN UNNEST(@abandoned)
  AND round != ''
  AND claimed_at < TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL {{lease_seconds}} SECOND);

-- A round that has claimed open failures keeps to them, because its job may exist.
IF
  NOT EXISTS (
    SELECT 1
    FROM (
{% include "requests/in_bigquery/failures.sql" %}
    ) AS failures
{% include "requests/in_bigquery/claims_of_failures.sql" %}
    WHERE claims.round = @round
  )
THEN
  INSERT INTO {{claims.quoted}} (
    failed_job, key, request_digest, round, series, retried_job, number, owner, project, location, model, output_uri,
    claimed_at
  )
  SELECT
    failures.job_name,
    failures.key,
    TO_HEX(SHA256(TO_JSON_STRING(failures.request))),
    @round, @series, @retried_job, @number, @owner, @project, @location, @model, @output_uri,
    CURRENT_TIMESTAMP()
  FROM (
{% include "requests/in_bigquery/failures.sql" %}
  ) AS failures
{% include "requests/in_bigquery/claims_of_failures.sql" %}
  WHERE claims.round IS NULL AND failures.job_name IN UNNEST(@failed_jobs);
END IF;

COMMIT TRANSACTION;

CREATE OR REPLACE TABLE {{destination.quoted}}
OPTIONS (
  {{mark.options}},
  expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {{days}} DAY)
)
AS
SELECT
  failures.key,
  {% if labels_keys %}
  IF(
    JSON_VALUE(failures.request, '$.labels.{{key_label}}') IS NULL,
    JSON_SET(failures.request, '$.labels.{{key_label}}', {{label_of("failures.key", label_pattern)}}),
    failures.request
  ) AS request
  {% else %}
  failures.request
  {% endif %}
FROM (
{% include "requests/in_bigquery/failures.sql" %}
) AS failures
{% include "requests/in_bigquery/claims_of_failures.sql" %}
WHERE claims.round = @round;
