-- How many failures of earlier jobs a table still has, although @job_names have been asked them again.
SELECT COUNT(*)
FROM {{errors}}
WHERE
  retryable
  AND job_name IN UNNEST(@replaces)
  AND key IN (SELECT key FROM {{results}} WHERE job_name IN UNNEST(@job_names))
