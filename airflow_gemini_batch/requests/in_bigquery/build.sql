-- One request per row; other columns are passed through.
{% from "requests/in_bigquery/columns.jinja" import label_of, request_from_prompt, request_with_defaults %}
CREATE OR REPLACE TABLE {{build.destination.quoted}}
OPTIONS ({{mark.options}})
AS
SELECT
  key,
  {% if build.key_label %}
  JSON_SET(request, '$.labels.{{key_label}}', {{label_of("key", label_pattern)}}) AS request
  {% else %}
  request
  {% endif %}
  {% for name in build.columns.passed %}
  , `{{name}}`
  {% endfor %}
FROM (
  SELECT
    CAST(key AS STRING) AS key,
    {% if build.columns.has_requests %}
    {{request_with_defaults(build.columns.source, default_paths)}}
    {% else %}
    {{request_from_prompt(build, mime_types)}}
    {% endif %}
    AS request
    {% for name in build.columns.passed %}
    , `{{name}}`
    {% endfor %}
  FROM {{build.staging.quoted}}
)
