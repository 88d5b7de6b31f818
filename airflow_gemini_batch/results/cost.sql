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

-- Prices are in millionths of a dollar per million tokens, or per 1,000 searches, so that every step but the last
-- is exact. The cost is NULL if prices or tokens are unknown. Failed rows are not charged.
CREATE TEMP TABLE costs AS
SELECT
  used.response_id,
  used.search_queries,
  IF(
    used.row_status != '',
    IF(prices.input IS NULL, NULL, CAST(0 AS NUMERIC)),
    CAST(
      (
        (used.prompt - used.cached - used.audio - used.image - used.video) * prices.input
        + (used.cached - used.cached_audio) * prices.cached
        + used.audio * prices.audio
        + used.cached_audio * prices.cached_audio
        + used.image * prices.image
        + used.video * prices.video
        + (used.output - used.image_output) * prices.output
        + used.image_output * prices.image_output
        + used.charged_queries * @price_search * 1000
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
    IFNULL(media.image, 0) AS image,
    IFNULL(media.video, 0) AS video,
    IFNULL(media.image_output, 0) AS image_output,
    IFNULL(searches.queries, 0) AS search_queries,
    IFNULL(searches.charged, 0) AS charged_queries
  FROM responses
  LEFT JOIN (
    -- Of the prompt, these are the tokens that were not cached. The pages of documents are images.
    SELECT
      response_id,
      SUM(IF(modality = 'AUDIO', uncached, 0)) AS audio,
      SUM(IF(modality IN ('IMAGE', 'DOCUMENT'), uncached, 0)) AS image,
      SUM(IF(modality = 'VIDEO', uncached, 0)) AS video,
      SUM(IF(kind = 'cached' AND modality = 'AUDIO', tokens, 0)) AS cached_audio,
      SUM(IF(kind = 'output' AND modality = 'IMAGE', tokens, 0)) AS image_output
    FROM (
      SELECT *, CASE kind WHEN 'prompt' THEN tokens WHEN 'cached' THEN -tokens ELSE 0 END AS uncached
      FROM media_tokens
    )
    GROUP BY response_id
  ) AS media ON media.response_id = responses.response_id
  LEFT JOIN (
    -- The first queries, in an order that is the same in every landing, are the free ones.
    SELECT response_id, queries, GREATEST(LEAST(queries, queries_so_far - @free_searches), 0) AS charged
    FROM (
      SELECT
        found.response_id,
        found.queries,
        SUM(found.queries) OVER (
          ORDER BY outcomes.key, outcomes.fingerprint, outcomes.processed_at, found.queries, found.response_id
        ) AS queries_so_far
      FROM (
        SELECT
          response_id,
          SUM(ARRAY_LENGTH(JSON_QUERY_ARRAY(as_array(JSON_QUERY(candidate, '$.groundingMetadata.webSearchQueries'))))) AS queries
        FROM (
          SELECT response_id, response
          FROM responses
          WHERE row_status = '' AND STRPOS(TO_JSON_STRING(response), '"webSearchQueries"') > 0
        )
        CROSS JOIN UNNEST(JSON_QUERY_ARRAY(as_array(JSON_QUERY(response, '$.candidates')))) AS candidate
        GROUP BY response_id
      ) AS found
      JOIN outcomes ON outcomes.response_id = found.response_id
      WHERE found.queries > 0
    )
  ) AS searches ON searches.response_id = responses.response_id
  WHERE responses.raw_line IS NULL
) AS used
CROSS JOIN (
  SELECT
    FALSE AS is_long, @price_input AS input, @price_cached AS cached, @price_audio AS audio,
    @price_cached_audio AS cached_audio, @price_image AS image, @price_video AS video,
    @price_output AS output, @price_image_output AS image_output
  UNION ALL
  SELECT
    TRUE, @long_price_input, @long_price_cached, @long_price_audio,
    @long_price_cached_audio, @long_price_image, @long_price_video,
    @long_price_output, @long_price_image_output
) AS prices
WHERE prices.is_long = (IFNULL(used.prompt, 0) > @long_prompt_tokens);
