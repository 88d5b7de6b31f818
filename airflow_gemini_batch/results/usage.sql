-- Cost and tokens of jobs by day, DAG, model and labels. A job has one model, but failed rows do not name it.
SELECT
  day,
  dag_id,
  model,
  PARSE_JSON(labels) AS labels,
  COUNT(*) AS jobs,
  SUM(job_rows) AS job_rows,
  SUM(succeeded) AS succeeded,
  SUM(prompt_tokens) AS prompt_tokens,
  SUM(cached_tokens) AS cached_tokens,
  SUM(output_tokens) AS output_tokens,
  SUM(thought_tokens) AS thought_tokens,
  SUM(total_tokens) AS total_tokens,
  SUM(search_queries) AS search_queries,
  SUM(cost_usd) AS cost_usd
FROM (
  SELECT
    DATE(landed_at) AS day,
    dag_id,
    job_name,
    MAX(model_version) AS model,
    MAX(TO_JSON_STRING(job_labels)) AS labels,
    COUNT(*) AS job_rows,
    COUNTIF(status = 'succeeded') AS succeeded,
    SUM(prompt_tokens) AS prompt_tokens,
    SUM(cached_tokens) AS cached_tokens,
    SUM(output_tokens) AS output_tokens,
    SUM(thought_tokens) AS thought_tokens,
    SUM(total_tokens) AS total_tokens,
    SUM(search_queries) AS search_queries,
    SUM(cost_usd) AS cost_usd
  FROM {{ table.quoted }}
  -- By position, because the response schema may have columns with these names.
  GROUP BY 1, 2, 3
) AS of_job
-- The column, not the JSON value of the same name, which BigQuery does not group by.
GROUP BY day, dag_id, model, of_job.labels
