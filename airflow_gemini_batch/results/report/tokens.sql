-- Rows by number of tokens, rounded to three digits: at most 900 result rows per power of ten.
SELECT kind, CAST(tokens - MOD(tokens, step) AS INT64) AS tokens, COUNT(*) AS row_count
FROM (
  SELECT
    kind,
    tokens,
    CAST(POW(10, GREATEST(LENGTH(CAST(tokens AS STRING)) - 3, 0)) AS INT64) AS step
  FROM (
    SELECT 'prompt' AS kind, prompt_tokens AS tokens
    FROM {{ results.quoted }}
    WHERE job_name IN UNNEST(@job_names) AND prompt_tokens >= 0
    UNION ALL
    SELECT 'response' AS kind, output_tokens + IFNULL(thought_tokens, 0) AS tokens
    FROM {{ results.quoted }}
    WHERE job_name IN UNNEST(@job_names) AND output_tokens >= 0
  )
)
GROUP BY kind, tokens, step
ORDER BY kind, tokens
