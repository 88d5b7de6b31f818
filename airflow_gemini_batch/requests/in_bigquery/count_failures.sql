-- The number of retryable failures per job.
SELECT job_name, COUNT(*) AS requests
FROM (
{% include "requests/in_bigquery/failures.sql" %}
)
GROUP BY job_name
