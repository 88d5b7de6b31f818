-- Input lines: {"request": {…}, "key": …}. The job has read them, so they are JSON.
SELECT
  NULLIF(JSON_QUERY(line, '$.{{key_field}}'), 'null') AS key,
  JSON_QUERY(line, '$.request') AS request
FROM {{requests_table}}
WHERE line != ''
