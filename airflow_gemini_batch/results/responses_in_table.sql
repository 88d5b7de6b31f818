{% from "results/job_table.sql" import json, key, status, text %}
-- A job's output table: the columns of its input, plus `response` and `status`.
SELECT
  {{ part.job_sql }} AS job,
  CAST(NULL AS STRING) AS raw_line,
  {{ key(part.source, landing.key_field) }} AS key,
  {{ status(part.source) }} AS row_status,
  CAST({{ text(part.source, "processed_time") }} AS STRING) AS processed_time,
  {{ json(part.source, "request") }} AS request,
  {{ json(part.source, "response") }} AS response
FROM {{ part.source.quoted }}
