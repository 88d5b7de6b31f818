{% from "results/job_table.sql" import json, key %}
-- A job's input table.
SELECT
  {{ part.job_sql }} AS job,
  {{ key(part.source, landing.key_field) }} AS key,
  NULLIF(TO_JSON_STRING({{ json(part.source, "request") }}), 'null') AS source,
  CAST(NULL AS STRING) AS source_uri,
  TRUE AS is_known
FROM {{ part.source.quoted }}
