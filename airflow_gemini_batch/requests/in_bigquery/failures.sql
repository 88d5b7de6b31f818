-- Retryable failures. A failure does not count when the results table has a newer row of its request. A row
-- whose request is unknown stands for every request of its key.
{% from "requests/in_bigquery/error_rows.jinja" import is_of %}
SELECT failures.key, failures.request, failures.job_name
FROM (
  SELECT
    key,
    request,
    request_fingerprint,
    job_name,
    landed_at,
    -- Several requests may share a key; each distinct request is resubmitted once.
    ROW_NUMBER() OVER (PARTITION BY key, TO_JSON_STRING(request) ORDER BY landed_at DESC, job_name) AS age
  FROM {{failures.errors.quoted}}
  WHERE
    landed_at >= failed_since
    AND retryable
    AND key IS NOT NULL
    AND request IS NOT NULL
    AND {{is_of(failures.results, failures.errors)}}
  {% if failures.jobs %}
    AND job_name IN UNNEST(@jobs)
  {% endif %}
) AS failures
WHERE
  failures.age = 1
  AND NOT EXISTS (
    SELECT 1
    FROM {{failures.results.quoted}} AS newer
    WHERE
      newer.key = failures.key
      AND newer.landed_at >= failed_since
      AND newer.landed_at > failures.landed_at
      AND IFNULL(newer.request_fingerprint = failures.request_fingerprint, TRUE)
    {% if failures.jobs %}
      AND newer.job_name IN UNNEST(@jobs)
    {% endif %}
  )
