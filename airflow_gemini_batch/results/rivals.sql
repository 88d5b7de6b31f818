{% from "results/tables.jinja" import rows_of, where %}
{% from "requests/in_bigquery/error_rows.jinja" import is_of %}
-- Of landings that have written rows of one job at the same time, the rows written last stay.
CREATE TEMP TABLE latest AS
SELECT job_name, MAX(landed_at) AS landed_at
FROM {{ rows_of(tables.results, tables.results_filter) }}
WHERE job_name IN UNNEST(@job_names) AND landed_at >= @since
GROUP BY job_name;

BEGIN TRANSACTION;

DELETE FROM {{ tables.errors.quoted }} AS landed
WHERE
  {{ where(tables.errors_filter) }}landed.landed_at >= @since
  AND {{ is_of(tables.results, tables.errors, "landed") }}
  AND EXISTS (
    SELECT 1
    FROM latest
    WHERE latest.job_name = landed.job_name AND latest.landed_at > landed.landed_at
  );

DELETE FROM {{ tables.results.quoted }} AS landed
WHERE
  {{ where(tables.results_filter) }}landed.landed_at >= @since
  AND EXISTS (
    SELECT 1
    FROM latest
    WHERE latest.job_name = landed.job_name AND latest.landed_at > landed.landed_at
  );

COMMIT TRANSACTION;
