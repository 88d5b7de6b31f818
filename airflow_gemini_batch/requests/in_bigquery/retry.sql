-- The input table of a job that resubmits failed requests; it expires after some weeks.
CREATE OR REPLACE TABLE {{destination.quoted}}
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {{days}} DAY))
AS
SELECT key, request
FROM (
{% include "requests/in_bigquery/failures.sql" %}
)
