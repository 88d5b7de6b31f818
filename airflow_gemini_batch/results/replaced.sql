{% from "requests/in_bigquery/error_rows.jinja" import is_of %}
-- How many failures of earlier jobs are still in the table although @job_name resubmitted them.
SELECT COUNT(*)
FROM {{ errors.quoted }} AS failures
WHERE
  failures.retryable
  AND failures.job_name IN UNNEST(@replaces)
  AND {{ is_of(results, errors, "failures") }}
  AND EXISTS (
    SELECT 1
    FROM {{ results.quoted }} AS landed
    WHERE
      landed.key = failures.key
      AND landed.job_name = @job_name
      AND IFNULL(landed.request_fingerprint = failures.request_fingerprint, TRUE)
  )
