{% from "results/job_table.sql" import json, key %}
-- The job's input table.
SELECT
  {{ key(landing.requests, landing.key_field) }} AS key,
  NULLIF(TO_JSON_STRING({{ json(landing.requests, "request") }}), 'null') AS source
FROM {{ landing.requests.quoted }}
