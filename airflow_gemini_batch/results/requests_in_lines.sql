{% from "results/job_table.sql" import scalar %}
-- Input lines: {"request": {…}, "key": …}. The job has read them, so they are valid JSON.
SELECT
  {{ part.job_sql }} AS job,
  {{ scalar("JSON_QUERY(line, '%s')" % landing.key_field.json_path) }} AS key,
  JSON_QUERY(line, '$.request') AS source,
  {{ part.object_sql }} AS source_uri,
  TRUE AS is_known
FROM {{ part.source.quoted }}
WHERE line != ''
