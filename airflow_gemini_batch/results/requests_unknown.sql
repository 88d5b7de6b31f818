-- The input is unknown: the requests are those that the output repeats. A key may stand for several of them.
SELECT key, ANY_VALUE(source) AS source
FROM (
  SELECT
    key,
    TO_JSON_STRING(request) AS source,
    IF(
      COUNT(*) OVER (PARTITION BY key) > 1,
      canonical_request(TO_JSON_STRING(request)),
      NULL
    ) AS canonical,
    -- A line that is not JSON repeats no request. It counts only if no other line has its key.
    request IS NOT NULL OR COUNTIF(request IS NOT NULL) OVER (PARTITION BY key) = 0 AS counts
  FROM responses
  WHERE key IS NOT NULL
)
WHERE counts
GROUP BY key, canonical
UNION ALL
SELECT CAST(NULL AS STRING), TO_JSON_STRING(request)
FROM responses
WHERE key IS NULL
