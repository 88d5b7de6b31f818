{% from "requests/in_bigquery/error_rows.jinja" import is_of %}
-- The input is unknown: the requests are those that the output repeats. A key may stand for several of them.
SELECT key, ANY_VALUE(source) AS source
FROM (
  SELECT
    key,
    TO_JSON_STRING(request) AS source,
    IF(
      COUNT(*) OVER (PARTITION BY key) > 1,
      canonical_request(TO_JSON_STRING(request)),
      NULL
    ) AS canonical,
    -- A line that is not JSON repeats no request. It counts only if no other line has its key.
    request IS NOT NULL OR COUNTIF(request IS NOT NULL) OVER (PARTITION BY key) = 0 AS counts
  FROM responses
  WHERE key IS NOT NULL
)
WHERE counts
GROUP BY key, canonical
UNION ALL
SELECT CAST(NULL AS STRING), TO_JSON_STRING(request)
FROM responses
WHERE key IS NULL
UNION ALL
-- Requests without a response that an earlier landing of this job, which knew the input, has stored.
SELECT key, source
FROM (
  SELECT TO_JSON_STRING(key) AS key, TO_JSON_STRING(request) AS source
  FROM {{ landing.errors.quoted }}
  WHERE
    job_name = @job_name
    AND status = 'missing'
    AND key IS NOT NULL
    AND request IS NOT NULL
    AND {{ is_of(landing.results, landing.errors) }}
{% if landing.claims %}
  UNION DISTINCT
  -- Those that have been resubmitted since, in the rows of the jobs that have done so.
  SELECT TO_JSON_STRING(key), TO_JSON_STRING(request)
  FROM {{ landing.results.quoted }}
  WHERE
    job_name != @job_name
    AND job_name IN (SELECT job_name FROM {{ landing.claims.quoted }} WHERE job_name IS NOT NULL)
    AND key IN (SELECT key FROM {{ landing.claims.quoted }} WHERE failed_job = @job_name)
{% endif %}
)
WHERE key NOT IN (SELECT key FROM responses WHERE key IS NOT NULL)
