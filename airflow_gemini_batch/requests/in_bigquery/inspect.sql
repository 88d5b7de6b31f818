-- Counts rows that cannot become requests, before anything is submitted.
{% from "requests/in_bigquery/columns.jinja" import array, mime_type, parsed %}
{% from "requests/in_bigquery/rules.jinja" import counts, with_conditions %}
{% set columns = build.columns %}
SELECT
  COUNT(*) AS all_rows,
  COUNTIF(CAST(key AS STRING) IS NULL OR CAST(key AS STRING) = '') AS empty_keys,
  COUNT(key) - COUNT(DISTINCT key) AS repeated_keys,
  (
    SELECT CAST(key AS STRING)
    FROM {{build.staging.quoted}}
    WHERE key IS NOT NULL
    GROUP BY key
    HAVING COUNT(*) > 1
    ORDER BY key
    LIMIT 1
  ) AS repeated_key,
  COUNTIF(NOT REGEXP_CONTAINS(CAST(key AS STRING), r'^[A-Za-z]')) AS keys_without_letter,
  COUNTIF(
    {% if columns.has_requests %}
    JSON_QUERY({{parsed(columns.source)}}, '$.{{ "content.parts[0]" if build.are_embeddings else "contents[0]" }}') IS NULL
    {% else %}
    NOT EXISTS (SELECT 1 FROM UNNEST({{array(columns.source)}}) AS text WHERE text != '')
    {% endif %}
  ) AS empty_requests,
  COUNTIF(
    {% if "media_uri" in columns.optional %}
    EXISTS (
      SELECT 1
      FROM UNNEST({{array(columns.optional.media_uri)}}) AS uri WITH OFFSET AS item_offset
      WHERE IFNULL(uri, '') != '' AND (
        {{mime_type(columns, mime_types)}} IS NULL
        OR NOT REGEXP_CONTAINS(uri, r'{{media_uri_pattern}}')
      )
    )
    {% else %}
    FALSE
    {% endif %}
  ) AS invalid_media,
  COUNTIF(
    {% for name in snake_case_members %}
    JSON_QUERY({{parsed(columns.source)}}, '$.{{name}}') IS NOT NULL OR
    {% endfor %}
    FALSE
  ) AS snake_case
  {% if conditions %}
  , {{counts(conditions)}}
FROM {{with_conditions(build.staging.quoted, parsed(columns.source), conditions)}}
  {% else %}
FROM {{build.staging.quoted}}
  {% endif %}
