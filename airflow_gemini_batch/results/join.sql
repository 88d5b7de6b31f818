{# The first join makes the table of matches; it matches only keys that stand for one request. #}
{% set is_first = joined_by == "key" %}
-- Matches open responses with open requests by {{ joined_by }}. A response whose request already has one is a
-- duplicate: it is matched with no request. Of several, the best is kept, then the latest.
{{ "CREATE TEMP TABLE matches AS" if is_first else "INSERT INTO matches (response_id, request_id, joined_by)" }}
WITH
  unmatched AS (
    SELECT response_id, job, status, processed_at, identity
    FROM (
      SELECT
        *,
{% if joined_by in ("key", "repeated key") %}
        key AS identity
{% elif joined_by == "key and request" %}
        key || digest AS identity
{% elif joined_by == "label" %}
        -- A line that is not JSON has no request, but its label may have been found in its text.
        IFNULL(
          JSON_VALUE(request, '$.labels.{{ key_label }}'),
          IF(raw_line IS NULL, NULL, name)
        ) AS identity
{% elif joined_by == "number" %}
        IF(STARTS_WITH(key, '"'), NULL, SAFE_CAST(key AS NUMERIC)) AS identity
{% else %}
        digest AS identity
{% endif %}
      FROM responses
{% if not is_first %}
      WHERE response_id NOT IN (SELECT response_id FROM matches)
{% endif %}
    )
    WHERE identity IS NOT NULL
  ),
  identified AS (
    SELECT *, COUNT(*) OVER (PARTITION BY job, identity) AS peers
    FROM (
      SELECT
        request_id,
        job,
{% if joined_by in ("key", "repeated key") %}
        key AS identity
{% elif joined_by == "key and request" %}
        key || digest AS identity
{% elif joined_by == "label" %}
        JSON_VALUE(source, '$.labels.{{ key_label }}') AS identity
{% elif joined_by == "number" %}
        number AS identity
{% else %}
        digest AS identity
{% endif %}
      FROM requests
{% if not is_first %}
      -- Empty, and therefore free, if every response is matched.
      WHERE EXISTS (SELECT 1 FROM unmatched)
{% endif %}
    )
    WHERE identity IS NOT NULL
  ),
  open_requests AS (
    SELECT
      request_id,
      job,
      identity,
      ROW_NUMBER() OVER (PARTITION BY job, identity ORDER BY request_id) AS turn
    FROM identified
{% if not is_first %}
    WHERE request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
{% endif %}
  ),
  open_responses AS (
    SELECT
      response_id,
      job,
      identity,
      ROW_NUMBER() OVER (
        PARTITION BY job, identity
        ORDER BY status = 'succeeded' DESC, status = 'malformed', processed_at DESC, response_id
      ) AS turn
    FROM unmatched
  )
SELECT open_responses.response_id, open_requests.request_id, '{{ "key" if "key" in joined_by else joined_by }}' AS joined_by
FROM open_responses
LEFT JOIN open_requests
  ON open_requests.job = open_responses.job
  AND open_requests.identity = open_responses.identity
  AND open_requests.turn = open_responses.turn
WHERE
  EXISTS (
    SELECT 1
    FROM identified
    WHERE
      identified.job = open_responses.job
      AND identified.identity = open_responses.identity
{% if is_first %}
      -- A key may stand for several requests. A response then belongs to the one that it repeats.
      AND identified.peers = 1
{% elif joined_by == "number" %}
      -- A number-like key comes back as a number, and then 007 and 7 look the same.
      AND identified.peers = 1
{% elif joined_by == "label" and is_first_try %}
      -- The others are joined by their requests, if possible.
      AND identified.peers = 1
{% endif %}
  );
