-- Each key has one row. A success wins over any other row; of two alike, the later response wins. A request
-- without a readable response counts as processed at the end of its job; of two such rows, the one that lands
-- now wins.
IF
  EXISTS (SELECT 1 FROM {{ landing.results.quoted }} WHERE key IN (SELECT key FROM outcomes))
THEN
  DELETE FROM {{ landing.results.quoted }} AS landed
  WHERE EXISTS (
    SELECT 1
    FROM outcomes
    WHERE
      outcomes.key = landed.key
      AND outcomes.is_best
      AND CASE
        WHEN (outcomes.status = 'succeeded') != (landed.status = 'succeeded')
          THEN outcomes.status = 'succeeded'
        ELSE IFNULL(landed.processed_at <= IFNULL(outcomes.processed_at, @job_time), TRUE)
      END
  );
  DELETE FROM {{ landing.errors.quoted }}
  WHERE
    {{ is_of(landing.results, landing.errors) }}
    AND key IN (SELECT key FROM outcomes)
    AND key NOT IN (
      SELECT key FROM {{ landing.results.quoted }} WHERE status != 'succeeded' AND key IS NOT NULL
    );
END IF;
