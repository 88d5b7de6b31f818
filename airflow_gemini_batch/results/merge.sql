-- A key has one row. A success goes before any other row, and of two alike the later answer; where one of them
-- has no time, the row that lands now.
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
        ELSE IFNULL(landed.processed_at <= outcomes.processed_at, TRUE)
      END
  );
  DELETE FROM {{errors}}
  WHERE
    key IN (SELECT key FROM outcomes)
    AND key NOT IN (SELECT key FROM {{results}} WHERE status != 'succeeded' AND key IS NOT NULL);
END IF;
