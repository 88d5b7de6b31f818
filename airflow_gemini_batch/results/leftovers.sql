-- Usually every response is matched by its key, and all keys are known. Otherwise, try the other ways.
IF
  EXISTS (SELECT 1 FROM responses WHERE response_id NOT IN (SELECT response_id FROM matches))
  OR EXISTS (SELECT 1 FROM requests WHERE name IS NULL)
THEN

{% with joined_by = "label", is_first = true %}
{% include "results/join.sql" %}
{% endwith %}

{% with joined_by = "number" %}
{% include "results/join.sql" %}
{% endwith %}

{% include "results/digests.sql" %}

{% with joined_by = "request" %}
{% include "results/join.sql" %}
{% endwith %}

{% with joined_by = "label", is_first = false %}
{% include "results/join.sql" %}
{% endwith %}

-- Responses without any key are only counted: their requests cannot be identified.
INSERT INTO matches (response_id, request_id, joined_by)
SELECT open_responses.response_id, open_requests.request_id, 'count'
FROM (
  SELECT
    responses.response_id,
    ROW_NUMBER() OVER (ORDER BY classified.status = 'malformed', responses.response_id) AS turn
  FROM responses
  JOIN classified ON classified.response_id = responses.response_id
  WHERE
    (
      classified.status = 'malformed'
      OR responses.key IS NULL AND JSON_VALUE(responses.request, '$.labels.{{ key_label }}') IS NULL
    )
    AND responses.response_id NOT IN (SELECT response_id FROM matches)
) AS open_responses
JOIN (
  SELECT request_id, ROW_NUMBER() OVER (ORDER BY request_id) AS turn
  FROM requests
  WHERE request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
) AS open_requests ON open_requests.turn = open_responses.turn;

-- If every request has its response, an unreadable line is a duplicate.
INSERT INTO matches (response_id, request_id, joined_by)
SELECT classified.response_id, CAST(NULL AS STRING), 'count'
FROM classified
WHERE
  classified.status = 'malformed'
  AND classified.response_id NOT IN (SELECT response_id FROM matches)
  AND NOT EXISTS (
    SELECT 1
    FROM requests
    WHERE request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
  );

END IF;
