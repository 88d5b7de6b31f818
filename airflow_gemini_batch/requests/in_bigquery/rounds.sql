-- The rounds that a task run has begun, by what they have claimed.
SELECT
  number,
  round,
  project,
  location,
  model,
  output_uri,
  MAX(job_name) AS job_name,
  ARRAY_AGG(DISTINCT failed_job) AS failed_jobs
FROM {{claims.quoted}}
WHERE series = @series
GROUP BY number, round, project, location, model, output_uri
ORDER BY number
