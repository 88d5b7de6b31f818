-- How many rows have how many tokens, to three digits: at most 900 lines for each power of ten, whatever the
-- number of rows.
SELECT kind, CAST(tokens - MOD(tokens, step) AS INT64) AS tokens, COUNT(*) AS row_count
FROM (
  SELECT
    kind,
    tokens,
    CAST(POW(10, GREATEST(LENGTH(CAST(tokens AS STRING)) - 3, 0)) AS INT64) AS step
  FROM (
    SELECT 'prompt' AS kind, prompt_tokens AS tokens
    FROM {{results}}
    WHERE job_name = @job_name AND prompt_tokens >= 0
    UNION ALL
    SELECT 'answer' AS kind, output_tokens + IFNULL(thought_tokens, 0) AS tokens
    FROM {{results}}
    WHERE job_name = @job_name AND output_tokens >= 0
  )
)
GROUP BY kind, tokens, step
ORDER BY kind, tokens
