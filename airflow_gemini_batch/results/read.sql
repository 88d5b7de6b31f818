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

-- A google.rpc.Status is the error itself, or is in the member `error`.
CREATE TEMP FUNCTION inner_error(found JSON) RETURNS JSON AS (
  IF(JSON_QUERY(found, '$.error') IS NULL, found, JSON_QUERY(found, '$.error'))
);

-- A status is "Bad Request: {"error": {"code": 400, …}}", words and then JSON; or a google.rpc.Status alone.
CREATE TEMP FUNCTION status_error(row_status STRING) RETURNS JSON AS (
  inner_error(SAFE.PARSE_JSON(REGEXP_EXTRACT(row_status, r'(?s)\{.*\}'), wide_number_mode => 'round'))
);

-- An empty status, one with nothing in it such as {}, or one with the code 0.
CREATE TEMP FUNCTION is_good_status(row_status STRING) RETURNS BOOL AS (
  REGEXP_CONTAINS(row_status, r'^\s*(null|\{[\s{}]*("\w+"\s*:\s*(null|""|\[\s*\]|\{)[\s{},]*)*\})?\s*$')
  OR STARTS_WITH(LTRIM(row_status), '{') AND IFNULL(JSON_VALUE(status_error(row_status), '$.code') = '0', FALSE)
);

-- Whether a part of a response holds something other than text and thoughts. Members that describe the part do
-- not count, nor do empty ones. Any other member does, also one that the API has got since.
CREATE TEMP FUNCTION has_content(part JSON) RETURNS BOOL AS (
  IFNULL(JSON_VALUE(part, '$.thought'), '') != 'true'
  AND REGEXP_REPLACE(
    TO_JSON_STRING(part),
    r'"(?:(?:{{ descriptive | join("|") }})":(?:"(?:\\.|[^"\\])*"|\{[^{}]*\}|[a-z0-9]+)|\w+":(?:null|""|\[\]|\{\})),?',
    ''
  ) != '{}'
);

{% if landing.requests is not none %}
CREATE TEMP FUNCTION without_label(request JSON) RETURNS JSON AS (
  CASE
    WHEN JSON_VALUE(request, '$.labels.{{ key_label }}') IS NULL THEN request
    WHEN TO_JSON_STRING(JSON_QUERY(JSON_REMOVE(request, '$.labels.{{ key_label }}'), '$.labels')) = '{}'
      THEN JSON_REMOVE(request, '$.labels')
    ELSE JSON_REMOVE(request, '$.labels.{{ key_label }}')
  END
);

{% endif %}
-- Each line is parsed once, here. Most responses have one part; only the others need all their parts read and
-- joined, without thoughts.
CREATE TEMP TABLE responses AS
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
      raw_line,
      key,
      IF(IFNULL(row_status, '') = '' OR is_good_status(row_status), '', row_status) AS row_status,
      -- Output in BigQuery has no processed_time: the end of the job takes its place.
      IFNULL(SAFE_CAST(processed_time AS TIMESTAMP), IF(raw_line IS NULL, @job_time, NULL)) AS processed_at,
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
{% include "results/responses_in_" ~ ("lines" if landing.responses_are_lines else "table") ~ ".sql" %}
{% if landing.media %}
        )
{% endif %}
        )
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
        JSON_QUERY_ARRAY(
          as_array(
            IFNULL(JSON_QUERY(response, '$.embedding.values'), JSON_QUERY(response, '$.embeddings[0].values'))
          )
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
  is_empty,
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
    WHEN is_empty OR NOT has_answer THEN 'failed'
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
  CAST(NULL AS STRING) AS labeled_fingerprint,
{% else %}
{% macro fingerprint(request) -%}
LEFT(TO_HEX(SHA256(NULLIF(TO_JSON_STRING({{ request }}), 'null'))), 16)
{%- endmacro %}
  -- A request is the same with and without our label: a retry may add it.
  {{ fingerprint("IF(has_label, without_label(request), request)") }} AS fingerprint,
  -- Rows of earlier versions have this one.
  IF(has_label, {{ fingerprint("request") }}, NULL) AS labeled_fingerprint,
{% endif %}
  source
FROM (
{% if landing.requests is not none %}
SELECT
  *,
  SAFE.PARSE_JSON({{ input_request }}, wide_number_mode => 'round') AS request,
  STRPOS(source, '"{{ key_label }}"') > 0 AS has_label
FROM (
{% endif %}
{% if landing.requests is none %}
{% include "results/requests_unknown.sql" %}
{% elif landing.requests_are_lines %}
{% include "results/requests_in_lines.sql" %}
{% else %}
{% include "results/requests_in_table.sql" %}
{% endif %}
{% if landing.requests is not none %}
)
{% endif %}
);

CREATE TEMP TABLE matches (response_id STRING, request_id STRING, joined_by STRING);

CREATE TEMP TABLE digests (response_id STRING, request_id STRING, digest STRING);
