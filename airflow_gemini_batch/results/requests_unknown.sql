-- The input is gone: the answers themselves tell what was asked.
SELECT key, ANY_VALUE(TO_JSON_STRING(request)) AS source
FROM answers
WHERE key IS NOT NULL
GROUP BY key
UNION ALL
SELECT CAST(NULL AS STRING), TO_JSON_STRING(request)
FROM answers
WHERE key IS NULL
