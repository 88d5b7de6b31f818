{% include "results/media.sql" %}

-- A row for each part of a response that contains media; `name` is NULL if the data is not base64.
CREATE OR REPLACE TABLE {{ landing.media.quoted }}
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
SELECT media_name(content, mime_type) AS name, mime_type, content
FROM (
  SELECT JSON_VALUE(part, '$.inlineData.mimeType') AS mime_type, media_bytes(part) AS content
  FROM (
{% include "results/output_rows.sql" %}
  )
  CROSS JOIN UNNEST(JSON_QUERY_ARRAY(response, '$.candidates')) AS candidate
  CROSS JOIN UNNEST(JSON_QUERY_ARRAY(candidate, '$.content.parts')) AS part
  WHERE JSON_VALUE(part, '$.inlineData.data') != ''
);
