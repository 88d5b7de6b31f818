-- Counts rows of an input table that would fail, or whose results could not be told apart.
{% from "requests/in_bigquery/columns.jinja" import parsed %}
SELECT
  COUNT(*) AS all_rows,
  COUNTIF(IFNULL(JSON_TYPE({{parsed(request)}}), 'null') != 'object') AS invalid_requests,
  {% if key %}
  COUNTIF(row_key IS NULL) AS empty_keys,
  COUNT(row_key) - COUNT(DISTINCT row_key) AS repeated_keys
  {% else %}
  0 AS empty_keys,
  0 AS repeated_keys
  {% endif %}
FROM (
  SELECT
    {% if key and (path != "$" or key.type == "JSON") %}
    JSON_VALUE({{parsed(key)}}, '{{path}}') AS row_key,
    {% elif key %}
    `{{key.name}}` AS row_key,
    {% endif %}
    `request`
  FROM `{{table}}`
)
