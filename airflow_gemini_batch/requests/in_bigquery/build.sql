-- One request per row; other columns are passed through. A GenerateContentRequest has the key in its labels as
-- well, which an EmbedContentRequest does not have.
{% from "requests/in_bigquery/columns.jinja" import request_from_prompt, request_with_defaults %}
CREATE OR REPLACE TABLE {{build.destination.quoted}}
OPTIONS ({{mark.options}})
AS
SELECT
  key,
{% if build.are_embeddings %}
  unlabeled AS request
{% else %}
  JSON_SET(unlabeled, '$.labels.{{key_label}}', label) AS request
{% endif %}
  {% for name in build.columns.passed %}
  , `{{name}}`
  {% endfor %}
FROM (
  SELECT
    CAST(key AS STRING) AS key,
    IF(
      REGEXP_CONTAINS(CAST(key AS STRING), r'{{label_pattern}}'),
      CAST(key AS STRING),
      CONCAT('h-', SUBSTR(TO_HEX(SHA256(CAST(key AS STRING))), 1, 40))
    ) AS label,
    {% if build.columns.has_requests %}
    {{request_with_defaults(build.columns.source, default_paths)}}
    {% else %}
    {{request_from_prompt(build, mime_types)}}
    {% endif %}
    AS unlabeled
    {% for name in build.columns.passed %}
    , `{{name}}`
    {% endfor %}
  FROM {{build.staging.quoted}}
)
