-- Every answer has found its request by its key, or the other ways are tried. Names may be wanting, too.
IF
  EXISTS (SELECT 1 FROM answers WHERE answer_id NOT IN (SELECT answer_id FROM settled))
  OR EXISTS (SELECT 1 FROM requests WHERE name IS NULL)
THEN

{{join_by_label}}
{{join_by_number}}
{{digests}}
{{join_by_request}}
-- What has no key at all is accounted for by count: which request it answers cannot be known.
INSERT INTO settled (answer_id, request_id, way)
SELECT open_answers.answer_id, open_requests.request_id, 'count'
FROM (
  SELECT answers.answer_id, ROW_NUMBER() OVER (ORDER BY judged.bucket = 'malformed', answers.answer_id) AS turn
  FROM answers
  JOIN judged ON judged.answer_id = answers.answer_id
  WHERE
    (
      judged.bucket = 'malformed'
      OR answers.key IS NULL AND JSON_VALUE(answers.request, '$.labels.{{key_label}}') IS NULL
    )
    AND answers.answer_id NOT IN (SELECT answer_id FROM settled)
) AS open_answers
JOIN (
  SELECT request_id, ROW_NUMBER() OVER (ORDER BY request_id) AS turn
  FROM requests
  WHERE request_id NOT IN (SELECT request_id FROM settled WHERE request_id IS NOT NULL)
) AS open_requests ON open_requests.turn = open_answers.turn;

-- When every request has its answer, a line that cannot be read is one more copy of something.
INSERT INTO settled (answer_id, request_id, way)
SELECT judged.answer_id, CAST(NULL AS STRING), 'count'
FROM judged
WHERE
  judged.bucket = 'malformed'
  AND judged.answer_id NOT IN (SELECT answer_id FROM settled)
  AND NOT EXISTS (
    SELECT 1
    FROM requests
    WHERE request_id NOT IN (SELECT request_id FROM settled WHERE request_id IS NOT NULL)
  );

END IF;
