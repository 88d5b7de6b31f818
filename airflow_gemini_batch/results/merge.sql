{% from "results/tables.jinja" import rows_of, where %}
{% set result_rows = rows_of(landing.results, landing.results_filter) %}
-- Each key has one row. A success wins over any other row; of two alike, the later response wins. A request
-- without a readable response counts as processed at the end of its job; of two such rows, the one that lands
-- now wins.
IF
  EXISTS (SELECT 1 FROM {{ result_rows }} WHERE key IN (SELECT key FROM outcomes WHERE is_written))
THEN
  DELETE FROM {{ landing.results.quoted }} AS landed
  WHERE {{ where(landing.results_filter) }}EXISTS (
    SELECT 1
    FROM outcomes
    JOIN UNNEST(@jobs) AS jobs ON jobs.number = outcomes.job
    WHERE
      outcomes.key = landed.key
      AND outcomes.is_written
      AND CASE
        WHEN (outcomes.status = 'succeeded') != (landed.status = 'succeeded')
          THEN outcomes.status = 'succeeded'
        ELSE IFNULL(landed.processed_at <= IFNULL(outcomes.processed_at, jobs.ended_at), TRUE)
      END
  );
  DELETE FROM {{ landing.errors.quoted }}
  WHERE
    {{ where(landing.errors_filter) }}{{ is_of(landing.results, landing.errors) }}
    AND key IN (SELECT key FROM outcomes WHERE is_written)
    AND key NOT IN (
      SELECT key FROM {{ result_rows }} WHERE status != 'succeeded' AND key IS NOT NULL
    );
END IF;
