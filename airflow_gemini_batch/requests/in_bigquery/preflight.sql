-- Counts rows of an input table that would fail, or whose results could not be told apart.
{% from "requests/in_bigquery/columns.jinja" import parsed %}
{% from "requests/in_bigquery/rules.jinja" import counts, with_conditions %}
{% set row_key -%}
{% if key and (path != "$" or key.type == "JSON") -%}
JSON_VALUE({{parsed(key)}}, '{{path}}')
{%- elif key -%}
`{{key.name}}`
{%- endif %}
{%- endset %}
SELECT
  COUNT(*) AS all_rows,
  COUNTIF(IFNULL(JSON_TYPE(gemini_batch_request), 'null') != 'object') AS invalid_requests,
  {% if key %}
  COUNTIF({{row_key}} IS NULL) AS empty_keys,
  COUNT({{row_key}}) - COUNT(DISTINCT {{row_key}}) AS repeated_keys,
  {% else %}
  0 AS empty_keys,
  0 AS repeated_keys,
  {% endif %}
  {{counts(conditions)}}
FROM {{with_conditions("`%s`" % table, parsed(request), conditions)}}
