-- Media in responses, such as images. The name of an object is derived from its bytes.

-- Accepts both alphabets of base64, with or without padding; NULL if the data is not base64.
CREATE TEMP FUNCTION bytes_of(data STRING) RETURNS BYTES AS (
  IFNULL(
    SAFE.FROM_BASE64(data),
    SAFE.FROM_BASE64(
      SAFE.REPLACE(SAFE.REPLACE(data, '-', '+'), '_', '/')
      || CASE MOD(LENGTH(data), 4) WHEN 2 THEN '==' WHEN 3 THEN '=' ELSE '' END
    )
  )
);

CREATE TEMP FUNCTION media_bytes(part JSON) RETURNS BYTES AS (
  bytes_of(NULLIF(JSON_VALUE(part, '$.inlineData.data'), ''))
);

-- "image/png" becomes "….png", "audio/L16;rate=24000" becomes "….l16".
CREATE TEMP FUNCTION media_name(content BYTES, mime_type STRING) RETURNS STRING AS (
  TO_HEX(SHA256(content))
  || IFNULL('.' || REGEXP_EXTRACT(LOWER(mime_type), r'^[a-z]+/(?:x-)?([a-z0-9]+)'), '')
);

-- `inlineData` becomes `fileData`, Gemini's form for objects in Cloud Storage.
CREATE TEMP FUNCTION with_reference(part JSON, uri STRING) RETURNS JSON AS (
  IF(
    uri IS NULL,
    part,
    JSON_SET(
      JSON_REMOVE(part, '$.inlineData'),
      '$.fileData',
      JSON_SET(JSON_REMOVE(JSON_QUERY(part, '$.inlineData'), '$.data'), '$.fileUri', uri)
    )
  )
);

CREATE TEMP FUNCTION candidate_with_references(candidate JSON, folder STRING) RETURNS JSON AS (
  IF(
    JSON_QUERY_ARRAY(candidate, '$.content.parts') IS NULL,
    candidate,
    JSON_SET(
      candidate,
      '$.content.parts',
      ARRAY(
        SELECT
          with_reference(
            part,
            folder || '/' || media_name(media_bytes(part), JSON_VALUE(part, '$.inlineData.mimeType'))
          )
        FROM UNNEST(JSON_QUERY_ARRAY(candidate, '$.content.parts')) AS part WITH OFFSET AS position
        ORDER BY position
      )
    )
  )
);

CREATE TEMP FUNCTION response_with_references(response JSON, folder STRING) RETURNS JSON AS (
  IF(
    STRPOS(TO_JSON_STRING(response), '"inlineData"') = 0
    OR JSON_QUERY_ARRAY(response, '$.candidates') IS NULL,
    response,
    JSON_SET(
      response,
      '$.candidates',
      ARRAY(
        SELECT candidate_with_references(candidate, folder)
        FROM UNNEST(JSON_QUERY_ARRAY(response, '$.candidates')) AS candidate WITH OFFSET AS position
        ORDER BY position
      )
    )
  )
);
