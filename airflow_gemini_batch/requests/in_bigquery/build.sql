-- One GenerateContentRequest a row, with its key also inside, and the other columns as they are.
CREATE OR REPLACE TABLE {{destination}} AS
SELECT
  key,
  {{request}} AS request
  {{passed_columns}}
FROM (
  SELECT
    CAST(key AS STRING) AS key,
    IF(
      REGEXP_CONTAINS(CAST(key AS STRING), r'{{label_pattern}}'),
      CAST(key AS STRING),
      CONCAT('h-', SUBSTR(TO_HEX(SHA256(CAST(key AS STRING))), 1, 40))
    ) AS label,
    {{given}} AS given
    {{passed_columns}}
  FROM {{staging}}
)
