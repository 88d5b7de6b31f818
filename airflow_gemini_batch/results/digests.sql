-- Digests of canonical requests, for rows without a usable key.
INSERT INTO digests (response_id, digest)
SELECT response_id, TO_HEX(SHA256(canonical_request(TO_JSON_STRING(request))))
FROM responses
WHERE
  request IS NOT NULL
  AND response_id NOT IN (SELECT response_id FROM matches)
  AND response_id NOT IN (SELECT response_id FROM digests WHERE response_id IS NOT NULL);

INSERT INTO digests (request_id, digest)
SELECT request_id, TO_HEX(SHA256(canonical_request({{ input_request }})))
FROM requests
WHERE
  source IS NOT NULL
  AND (name IS NULL OR EXISTS (SELECT 1 FROM digests))
  AND request_id NOT IN (SELECT request_id FROM digests WHERE request_id IS NOT NULL);
