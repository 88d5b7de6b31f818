{# Columns of a table that the job read or wrote. Which ones exist, and their types, depends on the user. #}
{% macro text(table, name) -%}
{{ "`" ~ name ~ "`" if name in table.column_types else "CAST(NULL AS STRING)" }}
{%- endmacro %}
{# The service reads and writes JSON in columns of type JSON and of type STRING. #}
{% macro json(table, name) -%}
{{ text(table, name) if table.column_types.get(name) == "JSON"
  else "SAFE.PARSE_JSON(" ~ text(table, name) ~ ", wide_number_mode => 'round')" }}
{%- endmacro %}
{# A key as JSON text, so that 7 and "7" differ; NULL for objects and arrays. #}
{% macro scalar(text) -%}
{{ "NULLIF(REGEXP_EXTRACT(" ~ text ~ ", r'^[^\\[{].*'), 'null')" }}
{%- endmacro %}
{# The key in a table; STRING columns may contain JSON as well. #}
{% macro key(table, field) -%}
{% set column = field.column(table.column_types) -%}
{% set is_nested = field.names | length > 1 -%}
{% if column is none or is_nested and table.column_types[column] not in ("JSON", "STRING") -%}
{{ "CAST(NULL AS STRING)" }}
{%- elif is_nested -%}
{{ scalar("TO_JSON_STRING(JSON_QUERY(%s, '%s'))" % (json(table, column), field.path_in_column)) }}
{%- else -%}
{{ scalar("TO_JSON_STRING(%s)" % text(table, column)) }}
{%- endif %}
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
