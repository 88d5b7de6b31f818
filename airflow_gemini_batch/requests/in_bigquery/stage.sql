-- The rows of the user's query, stored so that all later statements read the same ones.
CREATE OR REPLACE TABLE {{staging.quoted}}
OPTIONS ({{mark.options}}, expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
SELECT *
FROM (
{{sql}}
)
{% if answered %}
-- Rows without a key stay in, so that they are reported.
WHERE key IS NULL OR CAST(key AS STRING) NOT IN (
  SELECT key FROM {{answered.quoted}} WHERE status = 'succeeded' AND key IS NOT NULL
)
{% endif %}
