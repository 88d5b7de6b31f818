-- How many rows have each status. If several jobs have rows of one key, only those landed last count.
SELECT status, COUNT(*) AS row_count
FROM (
  SELECT
    status,
{% if of_jobs %}
    TRUE AS counts
{% else %}
    key IS NULL OR landed_at = MAX(landed_at) OVER (PARTITION BY key) AS counts
{% endif %}
  FROM {{ results.quoted }}
{% if of_jobs %}
  WHERE job_name IN UNNEST(@job_names)
{% endif %}
) AS found
WHERE counts
GROUP BY status
