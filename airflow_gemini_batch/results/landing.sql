{# The whole script that lands a job: read and classify, match with the input, write, count. #}
{% set input_request = "JSON_QUERY(source, '$.request')" if landing.requests_are_lines else "source" %}
{% if landing.media %}
{% include "results/media.sql" %}

{% endif %}
{% include "results/typed.sql" %}

{% include "results/read.sql" %}

{% include "results/cost.sql" %}

{% with joined_by = "key" %}
{% include "results/join.sql" %}
{% endwith %}

{% include "results/leftovers.sql" %}

{% include "results/land.sql" %}
