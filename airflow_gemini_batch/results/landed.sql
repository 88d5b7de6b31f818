{% from "results/tables.jinja" import rows_of %}
-- How many rows of one landing are still in the tables.
SELECT
  (
    SELECT COUNT(*)
    FROM {{ rows_of(tables.results, tables.results_filter) }}
    WHERE
      job_name IN UNNEST(@job_names)
      AND landed_at = @landed_at
{% if by_run %}
      AND dag_id = @dag_id
      AND run_id = @run_id
      AND task_id = @task_id
      AND map_index = @map_index
{% endif %}
  ) AS result_rows,
  (
    SELECT COUNT(*)
    FROM {{ rows_of(tables.errors, tables.errors_filter) }}
    WHERE job_name IN UNNEST(@job_names) AND landed_at = @landed_at AND results_table = '{{ tables.results }}'
  ) AS error_rows
