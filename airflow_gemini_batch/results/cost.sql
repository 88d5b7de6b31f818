-- Tokens that are not text. Few answers have any, and only those are taken apart.
CREATE TEMP TABLE media_tokens AS
SELECT
  answer_id,
  kind,
  JSON_VALUE(item, '$.modality') AS modality,
  SAFE_CAST(JSON_VALUE(item, '$.tokenCount') AS INT64) AS tokens
FROM (
  SELECT answer_id, kind, item
  FROM (
    SELECT answer_id, 'prompt' AS kind, JSON_QUERY(usage_metadata, '$.promptTokensDetails') AS details
    FROM answers
    WHERE REGEXP_CONTAINS(TO_JSON_STRING(usage_metadata), {{media}})
    UNION ALL
    SELECT answer_id, 'cached', JSON_QUERY(usage_metadata, '$.cacheTokensDetails')
    FROM answers
    WHERE REGEXP_CONTAINS(TO_JSON_STRING(usage_metadata), {{media}})
    UNION ALL
    SELECT answer_id, 'output', JSON_QUERY(usage_metadata, '$.candidatesTokensDetails')
    FROM answers
    WHERE REGEXP_CONTAINS(TO_JSON_STRING(usage_metadata), {{media}})
  )
  CROSS JOIN UNNEST(JSON_QUERY_ARRAY(details)) AS item
)
WHERE JSON_VALUE(item, '$.modality') != 'TEXT';

-- Prices are in millionths of a dollar for a million tokens, so that all but the last step is exact. Without
-- prices the cost is NULL, as it is without tokens; a row that failed is not charged.
CREATE TEMP TABLE costs AS
SELECT
  used.answer_id,
  IF(
    used.row_status != '',
    IF(prices.input IS NULL, NULL, CAST(0 AS NUMERIC)),
    CAST(
      (
        (used.prompt - used.cached - used.audio + used.cached_audio) * prices.input
        + (used.cached - used.cached_audio) * prices.cached
        + (used.audio - used.cached_audio) * prices.audio
        + used.cached_audio * prices.cached_audio
        + (used.output - used.image_output) * prices.output
        + used.image_output * prices.image_output
      ) / 1e12
      AS NUMERIC
    )
  ) AS cost_usd
FROM (
  SELECT
    answers.answer_id,
    answers.row_status,
    answers.prompt_tokens AS prompt,
    IFNULL(answers.cached_tokens, 0) AS cached,
    IFNULL(answers.output_tokens, 0) + IFNULL(answers.thought_tokens, 0) AS output,
    IFNULL(media.audio, 0) AS audio,
    IFNULL(media.cached_audio, 0) AS cached_audio,
    IFNULL(media.image_output, 0) AS image_output
  FROM answers
  LEFT JOIN (
    SELECT
      answer_id,
      SUM(IF(kind = 'prompt' AND modality = 'AUDIO', tokens, 0)) AS audio,
      SUM(IF(kind = 'cached' AND modality = 'AUDIO', tokens, 0)) AS cached_audio,
      SUM(IF(kind = 'output' AND modality = 'IMAGE', tokens, 0)) AS image_output
    FROM media_tokens
    GROUP BY answer_id
  ) AS media ON media.answer_id = answers.answer_id
  WHERE answers.raw_line IS NULL
) AS used
CROSS JOIN (
  SELECT
    FALSE AS is_long, @price_input AS input, @price_cached AS cached, @price_audio AS audio,
    @price_cached_audio AS cached_audio, @price_output AS output, @price_image_output AS image_output
  UNION ALL
  SELECT
    TRUE, @long_price_input, @long_price_cached, @long_price_audio,
    @long_price_cached_audio, @long_price_output, @long_price_image_output
) AS prices
WHERE prices.is_long = (IFNULL(used.prompt, 0) > @long_prompt_tokens);
