-- Matches open responses with open requests by {{ joined_by }}. A response whose request already has one is a
-- duplicate: it is matched with no request. Of several, the best is kept, then the latest.
INSERT INTO matches (response_id, request_id, joined_by)
WITH
  unmatched AS (
{% if joined_by == "key" %}
    SELECT response_id, key AS identity
    FROM responses
{% elif joined_by == "key and request" %}
    SELECT response_id, identity
    FROM (
      SELECT responses.response_id, responses.key || digests.digest AS identity
      FROM responses
      JOIN digests ON digests.response_id = responses.response_id
    )
{% elif joined_by == "label" %}
    -- A line that is not JSON has no request, but its label may have been found in its text.
    SELECT
      response_id,
      IFNULL(
        JSON_VALUE(request, '$.labels.{{ key_label }}'),
        IF(raw_line IS NULL, NULL, JSON_VALUE(key, '$'))
      ) AS identity
    FROM responses
{% elif joined_by == "number" %}
    SELECT response_id, IF(STARTS_WITH(key, '"'), NULL, SAFE_CAST(key AS NUMERIC)) AS identity
    FROM responses
{% else %}
    SELECT response_id, digest AS identity
    FROM (SELECT response_id, digest FROM digests WHERE response_id IS NOT NULL)
{% endif %}
    WHERE response_id NOT IN (SELECT response_id FROM matches)
  ),
  -- Empty, and therefore free, if every response is matched.
  identified AS (
    SELECT request_id, identity, COUNT(*) OVER (PARTITION BY identity) AS peers
    FROM (
{% if joined_by == "key" %}
      SELECT request_id, key AS identity
      FROM requests
{% elif joined_by == "key and request" %}
      SELECT requests.request_id, requests.key || digests.digest AS identity
      FROM requests
      JOIN digests ON digests.request_id = requests.request_id
{% elif joined_by == "label" %}
      SELECT request_id, JSON_VALUE({{ input_request }}, '$.labels.{{ key_label }}') AS identity
      FROM requests
{% elif joined_by == "number" %}
      SELECT request_id, number AS identity
      FROM requests
{% else %}
      SELECT request_id, digest AS identity
      FROM (SELECT request_id, digest FROM digests WHERE request_id IS NOT NULL)
{% endif %}
      WHERE EXISTS (SELECT 1 FROM unmatched)
    )
    WHERE identity IS NOT NULL
  ),
  open_requests AS (
    SELECT request_id, identity, ROW_NUMBER() OVER (PARTITION BY identity ORDER BY request_id) AS turn
    FROM identified
    WHERE request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
  ),
  open_responses AS (
    SELECT
      unmatched.response_id,
      unmatched.identity,
      ROW_NUMBER() OVER (
        PARTITION BY unmatched.identity
        ORDER BY classified.status = 'succeeded' DESC, classified.status = 'malformed',
          classified.processed_at DESC, unmatched.response_id
      ) AS turn
    FROM unmatched
    JOIN classified ON classified.response_id = unmatched.response_id
    WHERE unmatched.identity IS NOT NULL
  )
SELECT open_responses.response_id, open_requests.request_id, '{{ joined_by.partition(" ")[0] }}'
FROM open_responses
LEFT JOIN open_requests
  ON open_requests.identity = open_responses.identity AND open_requests.turn = open_responses.turn
WHERE
  open_responses.identity IN (
    SELECT identity
    FROM identified
{% if joined_by == "number" %}
    -- A number-like key comes back as a number, and then 007 and 7 look the same.
    WHERE peers = 1
{% elif joined_by == "label" and is_first %}
    -- The others are joined by their requests, if possible.
    WHERE peers = 1
{% endif %}
  );
