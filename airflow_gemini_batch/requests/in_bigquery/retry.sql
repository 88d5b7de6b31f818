-- The input of a job that asks failures again; it is gone after some weeks.
CREATE OR REPLACE TABLE {{destination}}
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {{days}} DAY))
AS
SELECT key, request
FROM (
{{failures}})
