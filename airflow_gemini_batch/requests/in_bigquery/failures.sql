-- Failures that may succeed when they are asked again: where a key has newer rows, those count.
SELECT failures.key, failures.request, failures.job_name
FROM (
  SELECT
    key,
    request,
    job_name,
    landed_at,
    -- A key may stand for several requests; one request is asked once.
    ROW_NUMBER() OVER (PARTITION BY key, TO_JSON_STRING(request) ORDER BY landed_at DESC, job_name) AS age
  FROM {{errors}}
  WHERE retryable AND key IS NOT NULL AND request IS NOT NULL AND {{is_meant}}
) AS failures
LEFT JOIN (
  SELECT key, MAX(landed_at) AS landed_at
  FROM {{results}}
  WHERE {{is_meant}}
  GROUP BY key
) AS newest ON newest.key = failures.key
WHERE failures.age = 1 AND failures.landed_at >= IFNULL(newest.landed_at, failures.landed_at)
