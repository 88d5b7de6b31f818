{# The rows of the jobs' output, from every table that has some. #}
{% for part in landing.responses %}
{% include "results/responses_in_" ~ ("lines" if part.is_lines else "table") ~ ".sql" %}
{{ "UNION ALL" if not loop.last }}
{% endfor %}
