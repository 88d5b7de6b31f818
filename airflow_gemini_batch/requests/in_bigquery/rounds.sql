-- The rounds that a task run has begun, and those in which any task run has retried a job by its name.
SELECT
  series,
  retried_job,
  number,
  round,
  project,
  location,
  model,
  output_uri,
  MAX(job_name) AS job_name,
  ARRAY_AGG(DISTINCT failed_job) AS failed_jobs
FROM {{claims.quoted}}
WHERE series IN UNNEST(@series) OR retried_job = @retried_job
GROUP BY series, retried_job, number, round, project, location, model, output_uri
ORDER BY number
