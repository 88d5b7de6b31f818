-- Tokens that are not text. Few responses have any, and only those are parsed.
CREATE TEMP TABLE media_tokens AS
SELECT
  response_id,
  kind,
  JSON_VALUE(item, '$.modality') AS modality,
  SAFE_CAST(JSON_VALUE(item, '$.tokenCount') AS INT64) AS tokens
FROM (
  SELECT response_id, kind, item
  FROM (
{% for kind, details in (("prompt", "prompt"), ("cached", "cache"), ("output", "candidates")) %}
    SELECT
      response_id,
      '{{ kind }}' AS kind,
      JSON_QUERY(usage_metadata, '$.{{ details }}TokensDetails') AS details
    FROM responses
    WHERE REGEXP_CONTAINS(TO_JSON_STRING(usage_metadata), r'"({{ modalities | join("|") }})"')
    {{ "UNION ALL" if not loop.last }}
{% endfor %}
  )
  CROSS JOIN UNNEST(JSON_QUERY_ARRAY(details)) AS item
)
WHERE JSON_VALUE(item, '$.modality') != 'TEXT';

-- Prices are in millionths of a dollar per million tokens, so that every step but the last is exact. The cost
-- is NULL if prices or tokens are unknown. Failed rows are not charged.
CREATE TEMP TABLE costs AS
SELECT
  used.response_id,
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
    responses.response_id,
    responses.row_status,
    responses.prompt_tokens AS prompt,
    IFNULL(responses.cached_tokens, 0) AS cached,
    IFNULL(responses.output_tokens, 0) + IFNULL(responses.thought_tokens, 0) AS output,
    IFNULL(media.audio, 0) AS audio,
    IFNULL(media.cached_audio, 0) AS cached_audio,
    IFNULL(media.image_output, 0) AS image_output
  FROM responses
  LEFT JOIN (
    SELECT
      response_id,
      SUM(IF(kind = 'prompt' AND modality = 'AUDIO', tokens, 0)) AS audio,
      SUM(IF(kind = 'cached' AND modality = 'AUDIO', tokens, 0)) AS cached_audio,
      SUM(IF(kind = 'output' AND modality = 'IMAGE', tokens, 0)) AS image_output
    FROM media_tokens
    GROUP BY response_id
  ) AS media ON media.response_id = responses.response_id
  WHERE responses.raw_line IS NULL
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
