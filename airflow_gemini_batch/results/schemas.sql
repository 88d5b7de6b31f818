-- The different response schemas that the requests of a job ask for; NULL where one asks for none.
SELECT schema
FROM (
  SELECT
    COALESCE(
      NULLIF(JSON_QUERY(config, '$.responseSchema'), 'null'),
      NULLIF(JSON_QUERY(config, '$.responseJsonSchema'), 'null'),
      NULLIF(JSON_QUERY(config, '$.response_schema'), 'null'),
      NULLIF(JSON_QUERY(config, '$.response_json_schema'), 'null')
    ) AS schema
  FROM (
    SELECT
      COALESCE(
        NULLIF(JSON_QUERY(request, '$.generationConfig'), 'null'),
        NULLIF(JSON_QUERY(request, '$.generation_config'), 'null')
      ) AS config
    FROM (SELECT CAST({{request}} AS STRING) AS request FROM {{table}})
    WHERE request != 'null'
  )
)
GROUP BY schema
ORDER BY schema
LIMIT {{limit}}
