-- A sample of a table's requests, the same rows each time, with the number and size of all requests.
WITH requests AS (
  SELECT {{"request" if request_type == "STRING" else "TO_JSON_STRING(request)"}} AS request FROM `{{table}}`
)
SELECT sampled.request, totals.all_rows, totals.all_bytes
FROM (
  SELECT request, FARM_FINGERPRINT(request) AS fingerprint
  FROM requests
  WHERE request IS NOT NULL
  ORDER BY fingerprint
  LIMIT {{limit}}
) AS sampled
CROSS JOIN (SELECT COUNT(*) AS all_rows, SUM(BYTE_LENGTH(request)) AS all_bytes FROM requests) AS totals
ORDER BY sampled.fingerprint
