-- The input no longer exists: the requests are those that the output repeats.
SELECT key, ANY_VALUE(TO_JSON_STRING(request)) AS source
FROM responses
WHERE key IS NOT NULL
GROUP BY key
UNION ALL
SELECT CAST(NULL AS STRING), TO_JSON_STRING(request)
FROM responses
WHERE key IS NULL
