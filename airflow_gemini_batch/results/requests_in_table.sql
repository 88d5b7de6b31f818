-- The job's input table.
SELECT {{key}} AS key, NULLIF(TO_JSON_STRING({{request}}), 'null') AS source
FROM {{requests_table}}
