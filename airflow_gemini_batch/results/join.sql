-- Joins open answers to open requests by {{way}}. An answer whose request is known but has its answer already
-- is a duplicate: it is settled without a request. Of several, the best and then the latest is kept.
INSERT INTO settled (answer_id, request_id, way)
WITH
  unanswered AS (
    SELECT answer_id, {{answered}} AS identity
    FROM {{answered_from}}
    WHERE answer_id NOT IN (SELECT answer_id FROM settled)
  ),
  -- Empty, and so for nothing, when every answer is settled.
  asked AS (
    SELECT request_id, identity, COUNT(*) OVER (PARTITION BY identity) AS peers
    FROM (
      SELECT request_id, {{asked}} AS identity
      FROM {{asked_from}}
      WHERE EXISTS (SELECT 1 FROM unanswered)
    )
    WHERE identity IS NOT NULL
  ),
  open_requests AS (
    SELECT request_id, identity, ROW_NUMBER() OVER (PARTITION BY identity ORDER BY request_id) AS turn
    FROM asked
    WHERE request_id NOT IN (SELECT request_id FROM settled WHERE request_id IS NOT NULL)
  ),
  open_answers AS (
    SELECT
      unanswered.answer_id,
      unanswered.identity,
      ROW_NUMBER() OVER (
        PARTITION BY unanswered.identity
        ORDER BY judged.bucket = 'succeeded' DESC, judged.bucket = 'malformed', judged.processed_at DESC,
          unanswered.answer_id
      ) AS turn
    FROM unanswered
    JOIN judged ON judged.answer_id = unanswered.answer_id
    WHERE unanswered.identity IS NOT NULL
  )
SELECT open_answers.answer_id, open_requests.request_id, '{{way}}'
FROM open_answers
LEFT JOIN open_requests
  ON open_requests.identity = open_answers.identity AND open_requests.turn = open_answers.turn
WHERE open_answers.identity IN (SELECT identity FROM asked WHERE {{condition}});
