-- Reads the job's output and input into temporary tables and gives every response its status.

CREATE TEMP FUNCTION canonical_request(request STRING) RETURNS STRING LANGUAGE js AS r"""
  // Requests that differ only in member order, nulls or white space have the same canonical form.
  const canonical = (value) => {
    if (Array.isArray(value)) return value.map(canonical);
    if (value === null || typeof value !== 'object') return value;
    const names = Object.keys(value).filter((name) => value[name] !== null).sort();
    return Object.fromEntries(names.map((name) => [name, canonical(value[name])]));
  };
  return request === null ? null : JSON.stringify(canonical(JSON.parse(request)));
""";

-- Each line is parsed once, here. Most responses have one part; only the others need all their parts read and
-- joined, without thoughts.
CREATE TEMP TABLE responses AS
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
      GENERATE_UUID() AS response_id,
      raw_line,
      key,
      row_status,
      -- Output in BigQuery has no processed_time: the end of the job takes its place.
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
      NOT has_candidate
        AND COALESCE(
          JSON_QUERY(response, '$.embedding.values[0]'), JSON_QUERY(response, '$.embeddings[0].values[0]')
        ) IS NOT NULL AS is_embedding,
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
        COALESCE(
          JSON_VALUE(response, '$.usageMetadata.promptTokenCount'),
          JSON_VALUE(response, '$.tokenCount'),
          JSON_VALUE(response, '$.embeddings[0].statistics.tokenCount'),
          JSON_VALUE(response, '$.embeddings[0].statistics.token_count')
        ) AS prompt_tokens,
        JSON_VALUE(response, '$.usageMetadata.cachedContentTokenCount') AS cached_tokens,
        JSON_VALUE(response, '$.usageMetadata.candidatesTokenCount') AS output_tokens,
        JSON_VALUE(response, '$.usageMetadata.thoughtsTokenCount') AS thought_tokens,
        JSON_VALUE(response, '$.usageMetadata.totalTokenCount') AS total_tokens
      FROM (
{% if landing.media %}
        -- The worker has stored the media; the responses get references to it.
        SELECT * REPLACE (response_with_references(response, @media_uri_prefix) AS response)
        FROM (
{% endif %}
{% include "results/responses_in_" ~ ("lines" if landing.responses_are_lines else "table") ~ ".sql" %}
{% if landing.media %}
        )
{% endif %}
      )
    )
  )
);

-- The only vector, or the first of several. A vector with a NULL in it is dropped as a whole.
CREATE TEMP TABLE embeddings AS
SELECT
  response_id,
  (
    SELECT IF(COUNTIF(number IS NULL) = 0, ARRAY_AGG(number IGNORE NULLS ORDER BY position), NULL)
    FROM (
      SELECT position, as_float64(item) AS number
      FROM UNNEST(
        IFNULL(
          JSON_QUERY_ARRAY(response, '$.embedding.values'), JSON_QUERY_ARRAY(response, '$.embeddings[0].values')
        )
      ) AS item WITH OFFSET AS position
    )
  ) AS embedding
FROM responses
WHERE is_embedding;

-- `misfit` says where a response does not match the response schema.
CREATE TEMP TABLE classified AS
SELECT
  response_id,
  name,
  processed_at,
  misfit,
{% for column in landing.columns %}
  column_{{ loop.index0 }},
{% endfor %}
  CASE
    WHEN is_malformed THEN 'malformed'
    WHEN row_status != '' THEN 'failed'
    WHEN block_reason IS NOT NULL THEN 'blocked'
    WHEN finish_reason IN ('{{ finish_reasons.blocked | join("', '") }}') THEN 'blocked'
    WHEN finish_reason IN ('{{ finish_reasons.truncated | join("', '") }}') THEN 'truncated'
    WHEN finish_reason NOT IN ('{{ finish_reasons.succeeded | join("', '") }}') THEN 'failed'
    WHEN is_embedding THEN 'succeeded'
    WHEN finish_reason IS NULL AND has_no_text THEN 'failed'
    WHEN misfit IS NOT NULL THEN 'invalid'
    ELSE 'succeeded'
  END AS status
FROM ({{ typed_query }});

-- `key` is JSON text, so that the string "7" and the number 7 differ; `name` is the key as users see it.
-- `source` contains the request.
CREATE TEMP TABLE requests AS
SELECT
  GENERATE_UUID() AS request_id,
  key,
  IFNULL(JSON_VALUE(key, '$'), JSON_VALUE({{ input_request }}, '$.labels.{{ key_label }}')) AS name,
  IF(STARTS_WITH(key, '"'), SAFE_CAST(JSON_VALUE(key, '$') AS NUMERIC), NULL) AS number,
{% if landing.requests is none %}
  CAST(NULL AS STRING) AS fingerprint,
{% else %}
  LEFT(
    TO_HEX(
      SHA256(NULLIF(TO_JSON_STRING(SAFE.PARSE_JSON({{ input_request }}, wide_number_mode => 'round')), 'null'))
    ),
    16
  ) AS fingerprint,
{% endif %}
  source
FROM (
{% if landing.requests is none %}
{% include "results/requests_unknown.sql" %}
{% elif landing.requests_are_lines %}
{% include "results/requests_in_lines.sql" %}
{% else %}
{% include "results/requests_in_table.sql" %}
{% endif %}
);

CREATE TEMP TABLE matches (response_id STRING, request_id STRING, joined_by STRING);

CREATE TEMP TABLE digests (response_id STRING, request_id STRING, digest STRING);
