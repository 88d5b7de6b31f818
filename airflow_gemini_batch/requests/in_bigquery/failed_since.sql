DECLARE failed_since TIMESTAMP;
{% from "requests/in_bigquery/error_rows.jinja" import oldest_failure %}
{% set jobs = "@jobs" if failures.jobs else "" %}

SET failed_since = {{oldest_failure(failures.errors.quoted, failures.results, failures.errors, jobs)}};
