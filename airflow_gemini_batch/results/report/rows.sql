-- The rows of a job by status and finish reason.
SELECT
  status,
  finish_reason,
  COUNT(*) AS row_count,
  IFNULL(SUM(prompt_tokens), 0) AS prompt_tokens,
  IFNULL(SUM(cached_tokens), 0) AS cached_tokens,
  IFNULL(SUM(output_tokens), 0) AS output_tokens,
  IFNULL(SUM(thought_tokens), 0) AS thought_tokens,
  IFNULL(SUM(total_tokens), 0) AS total_tokens,
  {{ "IFNULL(SUM(search_queries), 0)" if has_searches else "0" }} AS search_queries,
  SUM(cost_usd) AS cost_usd,
  MAX(model_version) AS model_version,
  MAX(dag_id) AS dag_id,
  MAX(task_id) AS task_id,
  MAX(run_id) AS run_id,
  MAX(landed_at) AS landed_at
FROM {{ results.quoted }}
WHERE job_name IN UNNEST(@job_names)
GROUP BY status, finish_reason
ORDER BY row_count DESC, status, finish_reason
