-- How many failures of earlier jobs are still in the table although @job_names resubmitted them.
SELECT COUNT(*)
FROM {{ errors.quoted }}
WHERE
  retryable
  AND job_name IN UNNEST(@replaces)
  AND key IN (SELECT key FROM {{ results.quoted }} WHERE job_name IN UNNEST(@job_names))
