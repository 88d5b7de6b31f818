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

CREATE TEMP TABLE answers AS
SELECT
  GENERATE_UUID() AS answer_id,
  raw_line,
  key,
  row_status,
  SAFE_CAST(processed_time AS TIMESTAMP) AS processed_at,
  request,
  response,
  JSON_QUERY(candidate, '$.content.parts') AS parts,
  JSON_VALUE(candidate, '$.finishReason') AS finish_reason,
  IF(candidate IS NULL, JSON_VALUE(response, '$.promptFeedback.blockReason'), NULL) AS block_reason,
  candidate IS NULL AND JSON_QUERY(response, '$.embedding') IS NOT NULL AS is_embedding,
  JSON_VALUE(response, '$.modelVersion') AS model_version,
  SAFE_CAST(JSON_VALUE(usage, '$.promptTokenCount') AS INT64) AS prompt_tokens,
  SAFE_CAST(JSON_VALUE(usage, '$.cachedContentTokenCount') AS INT64) AS cached_tokens,
  SAFE_CAST(JSON_VALUE(usage, '$.candidatesTokenCount') AS INT64) AS output_tokens,
  SAFE_CAST(JSON_VALUE(usage, '$.thoughtsTokenCount') AS INT64) AS thought_tokens,
  SAFE_CAST(JSON_VALUE(usage, '$.totalTokenCount') AS INT64) AS total_tokens
FROM (
  SELECT
    *,
    JSON_QUERY(response, '$.candidates[0]') AS candidate,
    JSON_QUERY(response, '$.usageMetadata') AS usage
  FROM ({{answers_source}})
);

-- One part is by far the most common; only answers of several are taken apart.
CREATE TEMP TABLE texts AS
SELECT
  answer_id,
  IF(JSON_VALUE(parts, '$[0].thought') = 'true', NULL, JSON_VALUE(parts, '$[0].text')) AS text
FROM answers
WHERE JSON_QUERY(parts, '$[1]') IS NULL
UNION ALL
SELECT
  answer_id,
  (
    SELECT STRING_AGG(JSON_VALUE(part, '$.text'), '' ORDER BY position)
    FROM UNNEST(JSON_QUERY_ARRAY(parts)) AS part WITH OFFSET AS position
    WHERE IFNULL(JSON_VALUE(part, '$.thought'), 'false') != 'true'
  ) AS text
FROM answers
WHERE JSON_QUERY(parts, '$[1]') IS NOT NULL;

CREATE TEMP TABLE outputs AS
SELECT answer_id, text, SAFE.PARSE_JSON(text, wide_number_mode => 'round') AS output
FROM texts;

-- `misfit` says where an answer does not fit the response schema.
CREATE TEMP TABLE judged AS
SELECT
  *,
  CASE
    WHEN raw_line IS NOT NULL THEN 'malformed'
    WHEN row_status != '' THEN 'failed'
    WHEN block_reason IS NOT NULL THEN 'blocked'
    WHEN finish_reason IN ({{blocked_reasons}}) THEN 'blocked'
    WHEN finish_reason IN ({{truncated_reasons}}) THEN 'truncated'
    WHEN finish_reason NOT IN ({{good_reasons}}) THEN 'failed'
    WHEN is_embedding THEN 'succeeded'
    WHEN finish_reason IS NULL AND text IS NULL THEN 'failed'
    WHEN misfit IS NOT NULL THEN 'invalid'
    ELSE 'succeeded'
  END AS bucket
FROM (
  SELECT
    answers.raw_line,
    answers.row_status,
    answers.block_reason,
    answers.finish_reason,
    answers.is_embedding,
    typed.*
  FROM answers
  JOIN ({{typed}}) AS typed ON typed.answer_id = answers.answer_id
);

-- `key` and `request` are JSON text, so that the text "7" and the number 7 differ. `name` is what people see.
CREATE TEMP TABLE requests AS
SELECT
  GENERATE_UUID() AS request_id,
  key,
  IFNULL(JSON_VALUE(key, '$'), JSON_VALUE(request, '$.labels.{{key_label}}')) AS name,
  IF(STARTS_WITH(key, '"'), SAFE_CAST(JSON_VALUE(key, '$') AS NUMERIC), NULL) AS number,
  request
FROM ({{requests_source}});

CREATE TEMP TABLE settled (answer_id STRING, request_id STRING, way STRING);
