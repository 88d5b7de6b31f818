-- What the user's query gives, once: all that follows reads the same rows.
CREATE OR REPLACE TABLE {{staging}}
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
SELECT *
FROM (
{{sql}}
)
WHERE {{is_new}}
