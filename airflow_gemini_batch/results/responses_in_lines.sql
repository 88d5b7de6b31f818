{% from "results/job_table.sql" import scalar %}
-- Output lines: {"status": …, "processed_time": …, "request": {…}, "response": {…}, "key": …}
SELECT
  {{ part.job_sql }} AS job,
  IF(doc IS NULL, line, NULL) AS raw_line,
  IFNULL(
    {{ scalar("TO_JSON_STRING(JSON_QUERY(doc, '%s'))" % landing.key_field.json_path) }},
    -- A truncated line may still start with its key or contain the label.
    IF(
      doc IS NULL,
      IFNULL(
        REGEXP_EXTRACT(line, r'{{ landing.key_field.torn_pattern }}'),
        REGEXP_EXTRACT(line, r'"{{ key_label }}"\s*:\s*("[^"\\]*")')
      ),
      NULL
    )
  ) AS key,
  IFNULL(JSON_VALUE(doc, '$.status'), NULLIF(TO_JSON_STRING(JSON_QUERY(doc, '$.status')), 'null')) AS row_status,
  JSON_VALUE(doc, '$.processed_time') AS processed_time,
  JSON_QUERY(doc, '$.request') AS request,
  JSON_QUERY(doc, '$.response') AS response
FROM (
  SELECT *, SAFE.PARSE_JSON(line, wide_number_mode => 'round') AS doc
  FROM {{ part.source.quoted }}
  WHERE line != ''
)
