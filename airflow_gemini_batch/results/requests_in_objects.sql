-- Input lines: {"request": {…}, "key": …}. The job has read them, so they are JSON.
SELECT
  key,
  IF(key IS NULL, JSON_VALUE(line, '$.request.labels.{{key_label}}'), NULL) AS label,
  JSON_QUERY(line, '$.request') AS request
FROM (
  SELECT line, NULLIF(JSON_QUERY(line, '$.{{key_field}}'), 'null') AS key
  FROM {{requests_table}}
  WHERE line != ''
)
