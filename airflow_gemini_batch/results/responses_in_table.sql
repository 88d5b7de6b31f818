{% from "results/job_table.sql" import json, key, status, text %}
-- The job's output table: the columns of its input, plus `response` and `status`.
SELECT
  CAST(NULL AS STRING) AS raw_line,
  {{ key(landing.responses, landing.key_field) }} AS key,
  {{ status(landing.responses) }} AS row_status,
  CAST({{ text(landing.responses, "processed_time") }} AS STRING) AS processed_time,
  {{ json(landing.responses, "request") }} AS request,
  {{ json(landing.responses, "response") }} AS response
FROM {{ landing.responses.quoted }}
