-- The models of jobs, as their responses name them.
SELECT job_name, MAX(model_version) AS model
FROM {{results.quoted}}
WHERE job_name IN UNNEST(@jobs) AND model_version IS NOT NULL
GROUP BY job_name
