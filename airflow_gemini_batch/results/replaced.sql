{% from "results/tables.jinja" import rows_of %}
{% from "requests/in_bigquery/error_rows.jinja" import is_of %}
-- How many failures of earlier jobs are still in the table although @job_names resubmitted them.
SELECT COUNT(*)
FROM {{ rows_of(tables.errors, tables.errors_filter) }} AS failures
WHERE
  failures.retryable
  AND failures.job_name IN UNNEST(@replaces)
  AND {{ is_of(tables.results, tables.errors, "failures") }}
  AND EXISTS (
    SELECT 1
    FROM {{ rows_of(tables.results, tables.results_filter) }} AS landed
    WHERE
      landed.key = failures.key
      AND landed.job_name IN UNNEST(@job_names)
      AND IFNULL(landed.request_fingerprint = failures.request_fingerprint, TRUE)
  )
