-- Retryable failures. A failure does not count when its key has newer rows in the results table.
SELECT failures.key, failures.request, failures.job_name
FROM (
  SELECT
    key,
    request,
    job_name,
    landed_at,
    -- Several requests may share a key; each distinct request is resubmitted once.
    ROW_NUMBER() OVER (PARTITION BY key, TO_JSON_STRING(request) ORDER BY landed_at DESC, job_name) AS age
  FROM {{failures.errors.quoted}}
  WHERE retryable AND key IS NOT NULL AND request IS NOT NULL
  {% if failures.jobs %}
    AND job_name IN UNNEST(@jobs)
  {% endif %}
) AS failures
LEFT JOIN (
  SELECT key, MAX(landed_at) AS landed_at
  FROM {{failures.results.quoted}}
  {% if failures.jobs %}
  WHERE job_name IN UNNEST(@jobs)
  {% endif %}
  GROUP BY key
) AS newest ON newest.key = failures.key
WHERE failures.age = 1 AND failures.landed_at >= IFNULL(newest.landed_at, failures.landed_at)
