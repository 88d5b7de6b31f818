-- A key has one row. A success goes before any other row, and of two alike the later answer. A request without
-- a readable answer is as late as its job; of two such, the one that lands now stays.
IF
  EXISTS (SELECT 1 FROM {{results}} WHERE key IN (SELECT key FROM outcomes))
THEN
  DELETE FROM {{results}} AS landed
  WHERE EXISTS (
    SELECT 1
    FROM outcomes
    WHERE
      outcomes.key = landed.key
      AND outcomes.is_best
      AND CASE
        WHEN (outcomes.bucket = 'succeeded') != (landed.status = 'succeeded') THEN outcomes.bucket = 'succeeded'
        ELSE IFNULL(landed.processed_at <= IFNULL(outcomes.processed_at, @job_time), TRUE)
      END
  );
  DELETE FROM {{errors}}
  WHERE
    key IN (SELECT key FROM outcomes)
    AND key NOT IN (SELECT key FROM {{results}} WHERE status != 'succeeded' AND key IS NOT NULL);
END IF;
