{% from "requests/in_bigquery/error_rows.jinja" import is_of %}
-- The most frequent errors of a job; messages that differ only in numbers and in what they quote count as one.
SELECT
  status,
  error_code,
  error_status,
  MIN(message) AS message,
  COUNT(*) AS row_count,
  COUNTIF(retryable) AS retryable_count,
  ARRAY_AGG(key IGNORE NULLS ORDER BY key LIMIT 3) AS examples,
  COUNT(*) OVER () AS kinds
FROM (
  SELECT status, error_code, error_status, key, retryable, LEFT(error_message, 400) AS message
  FROM {{ errors.quoted }}
  WHERE
    job_name IN UNNEST(@job_names)
{% if is_named %}
    AND {{ is_of(results, errors) }}
{% endif %}
)
GROUP BY status, error_code, error_status, REGEXP_REPLACE(message, r"[0-9]+|\x22[^\x22]*(\x22|$)|'[^']*('|$)|`[^`]*(`|$)", '0')
ORDER BY row_count DESC, status, message
LIMIT 12
