-- Counts the rows of a table that a job would take for nothing.
SELECT
  COUNT(*) AS all_rows,
  COUNTIF(IFNULL(JSON_TYPE({{request}}), 'null') != 'object') AS odd_requests,
  COUNTIF({{key}} IS NULL) AS empty_keys,
  COUNT({{key}}) - COUNT(DISTINCT {{key}}) AS repeated_keys
FROM {{table}}
