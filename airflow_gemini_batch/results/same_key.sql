-- A key may stand for several requests. A response then belongs to the one that it repeats.
IF
  EXISTS (SELECT 1 FROM requests WHERE key IS NOT NULL GROUP BY key HAVING COUNT(*) > 1)
THEN

INSERT INTO digests (response_id, digest)
SELECT response_id, TO_HEX(SHA256(canonical_request(TO_JSON_STRING(request))))
FROM responses
WHERE
  request IS NOT NULL
  AND key IN (SELECT key FROM requests WHERE key IS NOT NULL GROUP BY key HAVING COUNT(*) > 1);

INSERT INTO digests (request_id, digest)
SELECT request_id, TO_HEX(SHA256(canonical_request({{ input_request }})))
FROM requests
WHERE
  source IS NOT NULL
  AND key IN (SELECT key FROM requests WHERE key IS NOT NULL GROUP BY key HAVING COUNT(*) > 1);

{% with joined_by = "key and request" %}
{% include "results/join.sql" %}
{% endwith %}

END IF;
