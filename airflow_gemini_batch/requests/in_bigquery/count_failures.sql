-- How many failures there are to be asked again, by the job that they are of.
SELECT job_name, COUNT(*) AS requests
FROM (
{{failures}})
GROUP BY job_name
