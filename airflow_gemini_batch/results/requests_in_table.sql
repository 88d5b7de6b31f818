-- The job's input table.
SELECT
  {{key}} AS key,
  {{label}} AS label,
  {{request}} AS request
FROM {{requests_table}}
