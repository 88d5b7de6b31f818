-- Counts what would go wrong, before anything is submitted.
SELECT
  COUNT(*) AS all_rows,
  COUNTIF(CAST(key AS STRING) IS NULL OR CAST(key AS STRING) = '') AS empty_keys,
  COUNT(key) - COUNT(DISTINCT key) AS repeated_keys,
  (
    SELECT CAST(key AS STRING)
    FROM {{staging}}
    WHERE key IS NOT NULL
    GROUP BY key
    HAVING COUNT(*) > 1
    ORDER BY key
    LIMIT 1
  ) AS repeated_key,
  COUNTIF(NOT REGEXP_CONTAINS(CAST(key AS STRING), r'^[A-Za-z]')) AS keys_without_letter,
  COUNTIF({{is_empty}}) AS empty_requests,
  COUNTIF({{has_odd_media}}) AS odd_media,
  COUNTIF({{has_snake_case}}) AS snake_case
FROM {{staging}}
