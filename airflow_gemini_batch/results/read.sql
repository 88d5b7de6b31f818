-- Reads the job's output and input into temporary tables and judges every answer.

CREATE TEMP FUNCTION request_digest(request STRING) RETURNS STRING LANGUAGE js AS r"""
  // Equal for requests that differ in the order of members, in nulls or in white space only.
  const canonical = (value) => {
    if (Array.isArray(value)) return value.map(canonical);
    if (value === null || typeof value !== 'object') return value;
    const names = Object.keys(value).filter((name) => value[name] !== null).sort();
    return Object.fromEntries(names.map((name) => [name, canonical(value[name])]));
  };
  return request === null ? null : JSON.stringify(canonical(JSON.parse(request)));
""";

-- Everything of a line that is needed is taken out of it here, once. An answer has one part as a rule: only
-- others are gone through, for their parts that are no thoughts.
CREATE TEMP TABLE answers AS
SELECT *, SAFE.PARSE_JSON(text, wide_number_mode => 'round') AS output
FROM (
  SELECT
    * EXCEPT (texts, has_parts, part_text, part_thought),
    CASE
      WHEN has_parts THEN IF(ARRAY_LENGTH(texts) > 0, ARRAY_TO_STRING(texts, ''), NULL)
      WHEN IFNULL(part_thought, '') != 'true' THEN part_text
    END AS text
  FROM (
    SELECT
      GENERATE_UUID() AS answer_id,
      raw_line,
      key,
      row_status,
      -- Output in BigQuery does not say; of two jobs the one that ended later is then the later answer.
      IFNULL(SAFE_CAST(processed_time AS TIMESTAMP), IF(raw_line IS NULL, @job_time, NULL)) AS processed_at,
      request,
      response,
      has_parts,
      part_text,
      part_thought,
      IF(
        has_parts,
        ARRAY(
          SELECT JSON_VALUE(part, '$.text')
          FROM UNNEST(JSON_QUERY_ARRAY(response, '$.candidates[0].content.parts')) AS part WITH OFFSET AS position
          WHERE JSON_VALUE(part, '$.text') IS NOT NULL AND IFNULL(JSON_VALUE(part, '$.thought'), '') != 'true'
          ORDER BY position
        ),
        []
      ) AS texts,
      finish_reason,
      IF(has_candidate, NULL, JSON_VALUE(response, '$.promptFeedback.blockReason')) AS block_reason,
      NOT has_candidate AND JSON_QUERY(response, '$.embedding') IS NOT NULL AS is_embedding,
      model_version,
      usage_metadata,
      SAFE_CAST(prompt_tokens AS INT64) AS prompt_tokens,
      SAFE_CAST(cached_tokens AS INT64) AS cached_tokens,
      SAFE_CAST(output_tokens AS INT64) AS output_tokens,
      SAFE_CAST(thought_tokens AS INT64) AS thought_tokens,
      SAFE_CAST(total_tokens AS INT64) AS total_tokens
    FROM (
      SELECT
        *,
        JSON_QUERY(response, '$.candidates[0]') IS NOT NULL AS has_candidate,
        JSON_QUERY(response, '$.candidates[0].content.parts[1]') IS NOT NULL AS has_parts,
        JSON_VALUE(response, '$.candidates[0].content.parts[0].text') AS part_text,
        JSON_VALUE(response, '$.candidates[0].content.parts[0].thought') AS part_thought,
        JSON_VALUE(response, '$.candidates[0].finishReason') AS finish_reason,
        JSON_VALUE(response, '$.modelVersion') AS model_version,
        JSON_QUERY(response, '$.usageMetadata') AS usage_metadata,
        IFNULL(
          JSON_VALUE(response, '$.usageMetadata.promptTokenCount'),
          JSON_VALUE(response, '$.tokenCount')
        ) AS prompt_tokens,
        JSON_VALUE(response, '$.usageMetadata.cachedContentTokenCount') AS cached_tokens,
        JSON_VALUE(response, '$.usageMetadata.candidatesTokenCount') AS output_tokens,
        JSON_VALUE(response, '$.usageMetadata.thoughtsTokenCount') AS thought_tokens,
        JSON_VALUE(response, '$.usageMetadata.totalTokenCount') AS total_tokens
      FROM ({{answers_source}})
    )
  )
);

-- A vector with a hole is none.
CREATE TEMP TABLE embeddings AS
SELECT
  answer_id,
  (
    SELECT IF(COUNTIF(number IS NULL) = 0, ARRAY_AGG(number IGNORE NULLS ORDER BY position), NULL)
    FROM (
      SELECT position, as_float64(item) AS number
      FROM UNNEST(JSON_QUERY_ARRAY(response, '$.embedding.values')) AS item WITH OFFSET AS position
    )
  ) AS embedding
FROM answers
WHERE is_embedding;

-- `misfit` says where an answer does not fit the response schema.
CREATE TEMP TABLE judged AS
SELECT
  answer_id,
  name,
  processed_at,
  misfit,
  {{typed_columns}}
  CASE
    WHEN is_malformed THEN 'malformed'
    WHEN row_status != '' THEN 'failed'
    WHEN block_reason IS NOT NULL THEN 'blocked'
    WHEN finish_reason IN ({{blocked_reasons}}) THEN 'blocked'
    WHEN finish_reason IN ({{truncated_reasons}}) THEN 'truncated'
    WHEN finish_reason NOT IN ({{good_reasons}}) THEN 'failed'
    WHEN is_embedding THEN 'succeeded'
    WHEN finish_reason IS NULL AND is_mute THEN 'failed'
    WHEN misfit IS NOT NULL THEN 'invalid'
    ELSE 'succeeded'
  END AS bucket
FROM ({{typed}});

-- `key` is JSON text, so that the text "7" and the number 7 differ; `name` is what people see. `source` holds
-- the request, and is not taken apart unless it must be.
CREATE TEMP TABLE requests AS
SELECT
  GENERATE_UUID() AS request_id,
  key,
  IFNULL(JSON_VALUE(key, '$'), JSON_VALUE({{asked_request}}, '$.labels.{{key_label}}')) AS name,
  IF(STARTS_WITH(key, '"'), SAFE_CAST(JSON_VALUE(key, '$') AS NUMERIC), NULL) AS number,
  source
FROM ({{requests_source}});

CREATE TEMP TABLE settled (answer_id STRING, request_id STRING, way STRING);

CREATE TEMP TABLE digests (answer_id STRING, request_id STRING, digest STRING);
