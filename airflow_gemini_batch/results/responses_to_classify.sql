SELECT
  response_id,
  JSON_VALUE(key, '$') AS name,
  processed_at,
  raw_line IS NOT NULL AS is_malformed,
  row_status,
  finish_reason,
  block_reason,
  is_embedding,
  text IS NULL AS has_no_text,
  output
FROM responses
