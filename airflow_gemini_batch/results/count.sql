-- How many rows of some jobs a table has.
SELECT COUNT(*) FROM {{ table.quoted }} WHERE job_name IN UNNEST(@job_names)
