-- Input lines: {"request": {…}, "key": …}. The job has read them, so they are valid JSON.
SELECT NULLIF(JSON_QUERY(line, '$.{{ landing.key_field }}'), 'null') AS key, line AS source
FROM {{ landing.requests.quoted }}
WHERE line != ''
