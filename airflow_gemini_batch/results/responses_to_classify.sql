SELECT
  response_id,
  JSON_VALUE(key, '$') AS name,
  processed_at,
  raw_line IS NOT NULL AS is_malformed,
  row_status,
  finish_reason,
  block_reason,
  is_embedding,
  has_answer,
  is_wordless
    AND response_id NOT IN (
      SELECT response_id
      FROM (SELECT response_id, response FROM responses WHERE is_wordless)
      CROSS JOIN UNNEST(JSON_QUERY_ARRAY(as_array(JSON_QUERY(response, '$.candidates[0].content.parts')))) AS part
      WHERE has_content(part)
    ) AS is_empty,
  output
FROM responses
