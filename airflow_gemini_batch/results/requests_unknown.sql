{% from "results/tables.jinja" import rows_of, of_jobs %}
{% from "requests/in_bigquery/error_rows.jinja" import is_of %}
{% set unknown = landing.unknown | join(", ") %}
-- The input is unknown: the requests are those that the output repeats. A key may stand for several of them.
SELECT job, key, ANY_VALUE(source) AS source, CAST(NULL AS STRING) AS source_uri, FALSE AS is_known
FROM (
  SELECT
    job,
    key,
    TO_JSON_STRING(request) AS source,
    IF(
      COUNT(*) OVER (PARTITION BY job, key) > 1,
      canonical_request(TO_JSON_STRING(request)),
      NULL
    ) AS canonical,
    -- A line that is not JSON repeats no request. It counts only if no other line has its key.
    request IS NOT NULL OR COUNTIF(request IS NOT NULL) OVER (PARTITION BY job, key) = 0 AS counts
  FROM responses
  WHERE key IS NOT NULL AND job IN ({{ unknown }})
)
WHERE counts
GROUP BY job, key, canonical
UNION ALL
SELECT job, CAST(NULL AS STRING), TO_JSON_STRING(request), CAST(NULL AS STRING), FALSE
FROM responses
WHERE key IS NULL AND job IN ({{ unknown }})
UNION ALL
-- Requests without a response that an earlier landing of the job, which knew the input, has stored.
SELECT jobs.number, found.key, found.source, CAST(NULL AS STRING), FALSE
FROM (
  SELECT job_name, TO_JSON_STRING(key) AS key, TO_JSON_STRING(request) AS source
  FROM {{ rows_of(landing.errors, landing.errors_filter) }}
  WHERE
    {{ of_jobs() }}
    AND status = 'missing'
    AND key IS NOT NULL
    AND request IS NOT NULL
    AND {{ is_of(landing.results, landing.errors) }}
{% if landing.claims %}
  UNION DISTINCT
  -- Those that have been resubmitted since, in the rows of the jobs that have done so.
  SELECT claims.failed_job, TO_JSON_STRING(landed.key), TO_JSON_STRING(landed.request)
  FROM {{ rows_of(landing.results, landing.results_filter) }} AS landed
  JOIN (
    SELECT DISTINCT failed_job, key FROM {{ landing.claims.quoted }} WHERE failed_job IN UNNEST(@job_names)
  ) AS claims
    ON claims.key = landed.key
  WHERE
    landed.job_name != claims.failed_job
    AND landed.landed_at >= @since
    AND landed.job_name IN (SELECT job_name FROM {{ landing.claims.quoted }} WHERE job_name IS NOT NULL)
{% endif %}
) AS found
JOIN UNNEST(@jobs) AS jobs
  ON jobs.name = found.job_name
WHERE
  jobs.number IN ({{ unknown }})
  AND NOT EXISTS (
    SELECT 1
    FROM responses
    WHERE responses.job = jobs.number AND responses.key = found.key
  )
