-- Reads the jobs' output and input into temporary tables and gives every response its status. `job` is the
-- number of a job in @jobs.

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

CREATE TEMP FUNCTION without_label(request JSON) RETURNS JSON AS (
  CASE
    WHEN JSON_VALUE(request, '$.labels.{{ key_label }}') IS NULL THEN request
    WHEN TO_JSON_STRING(JSON_QUERY(JSON_REMOVE(request, '$.labels.{{ key_label }}'), '$.labels')) = '{}'
      THEN JSON_REMOVE(request, '$.labels')
    ELSE JSON_REMOVE(request, '$.labels.{{ key_label }}')
  END
);

-- `misfit` says where a response does not match the response schema.
CREATE TEMP TABLE responses AS
SELECT
  *,
  CASE
    WHEN raw_line IS NOT NULL THEN 'malformed'
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
-- `source` is the request as text.
CREATE TEMP TABLE requests AS
SELECT
  GENERATE_UUID() AS request_id,
  job,
  key,
  IFNULL(JSON_VALUE(key, '$'), JSON_VALUE(source, '$.labels.{{ key_label }}')) AS name,
  IF(STARTS_WITH(key, '"'), SAFE_CAST(JSON_VALUE(key, '$') AS NUMERIC), NULL) AS number,
{% macro fingerprint(request) -%}
LEFT(TO_HEX(SHA256(NULLIF(TO_JSON_STRING({{ request }}), 'null'))), 16)
{%- endmacro %}
  -- A request is the same with and without our label: a retry may add it.
  {{ fingerprint("IF(has_label, without_label(request), request)") }} AS fingerprint,
  -- Rows of earlier versions have this one.
  IF(has_label, {{ fingerprint("request") }}, NULL) AS labeled_fingerprint,
  -- Of a row without a usable key.
  CAST(NULL AS STRING) AS digest,
  source_uri,
  source
FROM (
  SELECT
    *,
    IF(is_known, SAFE.PARSE_JSON(source, wide_number_mode => 'round'), NULL) AS request,
    is_known AND STRPOS(source, '"{{ key_label }}"') > 0 AS has_label
  FROM (
{% for part in landing.requests %}
{% include "results/requests_in_" ~ ("lines" if part.is_lines else "table") ~ ".sql" %}
{{ "UNION ALL" if not loop.last or landing.unknown }}
{% endfor %}
{% if landing.unknown %}
{% include "results/requests_unknown.sql" %}
{% endif %}
  )
);
