-- The job's output table: the columns of its input, and `response` and `status`.
SELECT
  CAST(NULL AS STRING) AS raw_line,
  {{key}} AS key,
  CAST({{row_status}} AS STRING) AS row_status,
  CAST({{processed_time}} AS STRING) AS processed_time,
  {{request}} AS request,
  {{response}} AS response
FROM {{answers_table}}
