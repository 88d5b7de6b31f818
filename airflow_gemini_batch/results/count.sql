-- How many rows of a job a table has.
SELECT COUNT(*) FROM {{table}} WHERE job_name = @job_name
