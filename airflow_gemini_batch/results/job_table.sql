{# Columns of a table that the job read or wrote. Which ones exist, and their types, depends on the user. #}
{% macro text(table, name) -%}
{{ name if name in table.column_types else "CAST(NULL AS STRING)" }}
{%- endmacro %}
{# The service reads and writes JSON in columns of type JSON and of type STRING. #}
{% macro json(table, name) -%}
{{ name if table.column_types.get(name) == "JSON"
  else "SAFE.PARSE_JSON(" ~ text(table, name) ~ ", wide_number_mode => 'round')" }}
{%- endmacro %}
{# The key as JSON text, so that 7 and "7" differ. #}
{% macro key(table, name) -%}
{{ "NULLIF(TO_JSON_STRING(" ~ name ~ "), 'null')" if name in table.column_types else text(table, name) }}
{%- endmacro %}
{# The status of a row: text, or a google.rpc.Status as JSON or as a RECORD. #}
{% macro status(table) -%}
{% set type = table.column_types.get("status", "STRING") -%}
{% if type == "JSON" -%}
IFNULL(JSON_VALUE(status, '$'), NULLIF(TO_JSON_STRING(status), 'null'))
{%- elif type in ("RECORD", "STRUCT") -%}
NULLIF(TO_JSON_STRING(status), 'null')
{%- else -%}
CAST({{ text(table, "status") }} AS STRING)
{%- endif %}
{%- endmacro %}
