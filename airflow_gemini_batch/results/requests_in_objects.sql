-- Input lines: {"request": {…}, "key": …}. The job has read them, so they are JSON.
SELECT NULLIF(JSON_QUERY(line, '$.{{key_field}}'), 'null') AS key, line AS source
FROM {{requests_table}}
WHERE line != ''
