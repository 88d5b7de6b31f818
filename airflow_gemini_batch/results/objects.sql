-- The lines of objects in Cloud Storage, each with its object and the number of its job.
SELECT objects.job, objects.uri AS object, found.line
FROM {{ objects }} AS found
JOIN UNNEST(@objects) AS objects ON objects.uri = found._FILE_NAME
