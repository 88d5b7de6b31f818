-- For what carries no usable key: the canonical request.
CREATE TEMP TABLE answer_digests AS
SELECT answer_id, processed_at, TO_HEX(SHA256(request_digest(TO_JSON_STRING(request)))) AS digest
FROM answers
WHERE request IS NOT NULL AND answer_id NOT IN (SELECT answer_id FROM settled);

CREATE TEMP TABLE request_digests AS
SELECT request_id, TO_HEX(SHA256(request_digest(request))) AS digest
FROM requests
WHERE request IS NOT NULL AND (name IS NULL OR EXISTS (SELECT 1 FROM answer_digests));
