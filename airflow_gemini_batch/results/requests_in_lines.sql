{% from "results/job_table.sql" import scalar %}
-- Input lines: {"request": {…}, "key": …}. The job has read them, so they are valid JSON.
SELECT {{ scalar("JSON_QUERY(line, '%s')" % landing.key_field.json_path) }} AS key, line AS source
FROM {{ landing.requests.quoted }}
WHERE line != ''
