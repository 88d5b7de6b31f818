-- How many rows of one landing are still in the tables.
SELECT
  (
    SELECT COUNT(*)
    FROM {{ results.quoted }}
    WHERE
      job_name = @job_name
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
    FROM {{ errors.quoted }}
    WHERE job_name = @job_name AND landed_at = @landed_at AND results_table = '{{ results }}'
  ) AS error_rows
