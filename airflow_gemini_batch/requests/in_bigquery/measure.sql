-- The number of requests, and their size as JSONL.
SELECT
  COUNT(*) AS requests,
  IFNULL(SUM(BYTE_LENGTH(TO_JSON_STRING(request)) + 2 * BYTE_LENGTH(key) + 32), 0) AS bytes
FROM {{destination.quoted}}
