{# The whole script that lands jobs: read and classify, match with the input, write, count. #}
-- Set when the rows are written: BigQuery's time, which is the same for all workers.
DECLARE landing_time TIMESTAMP;
{% if landing.replaces %}
DECLARE lost_rows_are_charged BOOL;
DECLARE failed_since TIMESTAMP;
{% endif %}

{% if landing.media %}
{% include "results/media.sql" %}

{% endif %}
{% include "results/typed.sql" %}

{% include "results/read.sql" %}

{% with joined_by = "key" %}
{% include "results/join.sql" %}
{% endwith %}

{% include "results/leftovers.sql" %}

{% include "results/outcomes.sql" %}

{% include "results/write.sql" %}
