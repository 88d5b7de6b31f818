-- How many rows of each status there are. Of several jobs' rows of one key those that were landed last count.
SELECT status, COUNT(*) AS row_count
FROM (
  SELECT
    status,
    {{is_one}} OR key IS NULL OR landed_at = MAX(landed_at) OVER (PARTITION BY key) AS counts
  FROM {{results}}
  WHERE {{is_meant}}
) AS found
WHERE counts
GROUP BY status
