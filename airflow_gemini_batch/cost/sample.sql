-- Some requests of a table, the same ones each time it is asked, beside how many and how large all are.
WITH requests AS (SELECT {{request}} AS request FROM {{table}})
SELECT chosen.request, totals.all_rows, totals.all_bytes
FROM (
  SELECT request, FARM_FINGERPRINT(request) AS place
  FROM requests
  WHERE request IS NOT NULL
  ORDER BY place
  LIMIT {{limit}}
) AS chosen
CROSS JOIN (SELECT COUNT(*) AS all_rows, SUM(BYTE_LENGTH(request)) AS all_bytes FROM requests) AS totals
ORDER BY chosen.place
