-- Usually every response is matched by its key, and all keys are known. Otherwise, try the other ways.
IF
  EXISTS (SELECT 1 FROM responses WHERE response_id NOT IN (SELECT response_id FROM matches))
  OR EXISTS (SELECT 1 FROM requests WHERE name IS NULL)
THEN

-- Digests of canonical requests, for keys that stand for several requests.
UPDATE responses SET digest = TO_HEX(SHA256(canonical_request(TO_JSON_STRING(request))))
WHERE
  request IS NOT NULL
  AND key IS NOT NULL
  AND response_id NOT IN (SELECT response_id FROM matches)
  AND key IN (SELECT key FROM requests WHERE key IS NOT NULL GROUP BY job, key HAVING COUNT(*) > 1);

UPDATE requests SET digest = TO_HEX(SHA256(canonical_request(source)))
WHERE
  source IS NOT NULL
  AND key IS NOT NULL
  AND request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
  AND key IN (SELECT key FROM responses WHERE digest IS NOT NULL);

{% with joined_by = "key and request" %}
{% include "results/join.sql" %}
{% endwith %}

{% with joined_by = "repeated key" %}
{% include "results/join.sql" %}
{% endwith %}

{% with joined_by = "label", is_first_try = true %}
{% include "results/join.sql" %}
{% endwith %}

{% with joined_by = "number" %}
{% include "results/join.sql" %}
{% endwith %}

-- The same for rows without a usable key.
UPDATE responses SET digest = TO_HEX(SHA256(canonical_request(TO_JSON_STRING(request))))
WHERE
  request IS NOT NULL
  AND digest IS NULL
  AND response_id NOT IN (SELECT response_id FROM matches);

UPDATE requests SET digest = TO_HEX(SHA256(canonical_request(source)))
WHERE
  source IS NOT NULL
  AND digest IS NULL
  AND (name IS NULL OR EXISTS (SELECT 1 FROM responses WHERE digest IS NOT NULL));

{% with joined_by = "request" %}
{% include "results/join.sql" %}
{% endwith %}

{% with joined_by = "label", is_first_try = false %}
{% include "results/join.sql" %}
{% endwith %}

-- Responses without any key are only counted: their requests cannot be identified.
INSERT INTO matches (response_id, request_id, joined_by)
SELECT open_responses.response_id, open_requests.request_id, 'count'
FROM (
  SELECT
    response_id,
    job,
    ROW_NUMBER() OVER (PARTITION BY job ORDER BY status = 'malformed', response_id) AS turn
  FROM responses
  WHERE
    (status = 'malformed' OR key IS NULL AND JSON_VALUE(request, '$.labels.{{ key_label }}') IS NULL)
    AND response_id NOT IN (SELECT response_id FROM matches)
) AS open_responses
JOIN (
  SELECT request_id, job, ROW_NUMBER() OVER (PARTITION BY job ORDER BY request_id) AS turn
  FROM requests
  WHERE request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
) AS open_requests
  ON open_requests.job = open_responses.job AND open_requests.turn = open_responses.turn;

-- If every request has its response, an unreadable line is a duplicate.
INSERT INTO matches (response_id, request_id, joined_by)
SELECT response_id, CAST(NULL AS STRING), 'count'
FROM responses
WHERE
  status = 'malformed'
  AND response_id NOT IN (SELECT response_id FROM matches)
  AND job NOT IN (
    SELECT job
    FROM requests
    WHERE request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
  );

END IF;
