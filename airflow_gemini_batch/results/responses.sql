-- Each line is parsed once, here. Most responses have one part; only the others need all their parts read and
-- joined, without thoughts.
SELECT
  * EXCEPT (is_wordless),
  is_wordless
    AND NOT EXISTS (
      SELECT 1
      FROM UNNEST(
        JSON_QUERY_ARRAY(as_array(IF(is_wordless, JSON_QUERY(response, '$.candidates[0].content.parts'), NULL)))
      ) AS part
      WHERE has_content(part)
    ) AS is_empty
FROM (
  SELECT
    *,
    SAFE.PARSE_JSON(text, wide_number_mode => 'round') AS output,
    -- Whether it stopped normally and has no text: white space and invisible characters are none.
    has_answer
      AND IFNULL(finish_reason IN ('{{ finish_reasons.succeeded | join("', '") }}'), TRUE)
      AND NOT REGEXP_CONTAINS(IFNULL(text, ''), r'[^\pZ\p{Cc}\p{Cf}]') AS is_wordless
  FROM (
    SELECT
      * EXCEPT (texts, candidate, parts, part_text, part_thought),
      CASE
        WHEN parts IS NOT NULL THEN IF(ARRAY_LENGTH(texts) > 0, ARRAY_TO_STRING(texts, ''), NULL)
        WHEN IFNULL(part_thought, '') != 'true' THEN part_text
      END AS text
    FROM (
      SELECT
        GENERATE_UUID() AS response_id,
        job,
        raw_line,
        key,
        JSON_VALUE(key, '$') AS name,
        -- Of the request, if the row has no usable key.
        CAST(NULL AS STRING) AS digest,
        IF(IFNULL(row_status, '') = '' OR is_good_status(row_status), '', row_status) AS row_status,
        SAFE_CAST(processed_time AS TIMESTAMP) AS processed_at,
        request,
        response,
        candidate,
        parts,
        part_text,
        part_thought,
        ARRAY(
          SELECT JSON_VALUE(part, '$.text')
          FROM UNNEST(JSON_QUERY_ARRAY(parts)) AS part WITH OFFSET AS position
          WHERE JSON_VALUE(part, '$.text') IS NOT NULL AND IFNULL(JSON_VALUE(part, '$.thought'), '') != 'true'
          ORDER BY position
        ) AS texts,
        finish_reason,
        IF(candidate IS NULL, JSON_VALUE(response, '$.promptFeedback.blockReason'), NULL) AS block_reason,
        candidate IS NOT NULL
          OR (JSON_QUERY(response, '$.candidates') IS NOT NULL OR usage_metadata IS NOT NULL)
          AND JSON_QUERY(response, '$.embedding') IS NULL
          AND JSON_QUERY(response, '$.embeddings') IS NULL AS has_answer,
        candidate IS NULL
          AND COALESCE(
            JSON_QUERY(response, '$.embedding.values[0]'), JSON_QUERY(response, '$.embeddings[0].values[0]')
          ) IS NOT NULL AS is_embedding,
        model_version,
        usage_metadata,
        SAFE_CAST(
          COALESCE(
            JSON_VALUE(usage_metadata, '$.promptTokenCount'),
            JSON_VALUE(response, '$.tokenCount'),
            JSON_VALUE(response, '$.embeddings[0].statistics.tokenCount'),
            JSON_VALUE(response, '$.embeddings[0].statistics.token_count')
          ) AS INT64
        ) AS prompt_tokens,
        SAFE_CAST(JSON_VALUE(usage_metadata, '$.cachedContentTokenCount') AS INT64) AS cached_tokens,
        SAFE_CAST(JSON_VALUE(usage_metadata, '$.candidatesTokenCount') AS INT64) AS output_tokens,
        SAFE_CAST(JSON_VALUE(usage_metadata, '$.thoughtsTokenCount') AS INT64) AS thought_tokens,
        SAFE_CAST(JSON_VALUE(usage_metadata, '$.totalTokenCount') AS INT64) AS total_tokens
      FROM (
        SELECT
          *,
          IF(
            JSON_QUERY(candidate, '$.content.parts[1]') IS NULL, NULL, JSON_QUERY(candidate, '$.content.parts')
          ) AS parts,
          JSON_VALUE(candidate, '$.content.parts[0].text') AS part_text,
          JSON_VALUE(candidate, '$.content.parts[0].thought') AS part_thought,
          IFNULL(JSON_VALUE(candidate, '$.finishReason'), JSON_VALUE(candidate, '$.finish_reason')) AS finish_reason
        FROM (
          SELECT
            *,
            JSON_QUERY(response, '$.candidates[0]') AS candidate,
            JSON_VALUE(response, '$.modelVersion') AS model_version,
            JSON_QUERY(response, '$.usageMetadata') AS usage_metadata
          FROM (
{% if landing.media %}
            -- The worker has stored the media; the responses get references to it.
            SELECT * REPLACE (response_with_references(response, @media_uri_prefix) AS response)
            FROM (
{% endif %}
{% include "results/output_rows.sql" %}
{% if landing.media %}
            )
{% endif %}
          )
        )
      )
    )
  )
)
