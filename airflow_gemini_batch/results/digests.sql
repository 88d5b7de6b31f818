-- For what carries no usable key: the canonical request.
INSERT INTO digests (answer_id, digest)
SELECT answer_id, TO_HEX(SHA256(request_digest(TO_JSON_STRING(request))))
FROM answers
WHERE request IS NOT NULL AND answer_id NOT IN (SELECT answer_id FROM settled);

INSERT INTO digests (request_id, digest)
SELECT request_id, TO_HEX(SHA256(request_digest({{asked_request}})))
FROM requests
WHERE source IS NOT NULL AND (name IS NULL OR EXISTS (SELECT 1 FROM digests));
