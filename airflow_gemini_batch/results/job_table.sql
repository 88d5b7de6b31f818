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
