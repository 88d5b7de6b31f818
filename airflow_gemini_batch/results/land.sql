-- One row for every row of the input, and for every answer to nothing that was asked.
CREATE TEMP TABLE outcomes AS
SELECT *, {{is_best}} AS is_best
FROM (
  SELECT
    judged.answer_id,
    settled.request_id,
    settled.way,
    judged.bucket,
    judged.processed_at,
    COALESCE(
      IF(settled.way = 'count' AND judged.bucket != 'malformed', NULL, requests.name),
      judged.name,
      digests.digest
    ) AS key
  FROM judged
  LEFT JOIN settled ON settled.answer_id = judged.answer_id
  LEFT JOIN (SELECT request_id, name FROM requests) AS requests ON requests.request_id = settled.request_id
  LEFT JOIN digests ON digests.answer_id = judged.answer_id
  WHERE settled.answer_id IS NULL OR settled.request_id IS NOT NULL
  UNION ALL
  SELECT
    CAST(NULL AS STRING),
    requests.request_id,
    CAST(NULL AS STRING),
    'missing',
    CAST(NULL AS TIMESTAMP),
    IFNULL(requests.name, digests.digest)
  FROM (SELECT request_id, name FROM requests) AS requests
  LEFT JOIN digests ON digests.request_id = requests.request_id
  WHERE requests.request_id NOT IN (SELECT request_id FROM settled WHERE request_id IS NOT NULL)
);

-- Failed rows are not charged.
CREATE TEMP TABLE counts AS
SELECT
  @landed_at AS landed_at,
  (SELECT COUNT(*) FROM requests) AS input_rows,
  (SELECT COUNT(*) FROM answers) AS output_rows,
  (SELECT COUNT(*) FROM settled WHERE request_id IS NULL) AS duplicates,
  COUNTIF(outcomes.bucket = 'succeeded') AS succeeded,
  COUNTIF(outcomes.bucket = 'failed') AS failed,
  COUNTIF(outcomes.bucket = 'blocked') AS blocked,
  COUNTIF(outcomes.bucket = 'truncated') AS truncated,
  COUNTIF(outcomes.bucket = 'invalid') AS invalid,
  COUNTIF(outcomes.bucket = 'malformed') AS malformed,
  COUNTIF(outcomes.bucket = 'missing') AS missing,
  COUNTIF(outcomes.way = 'key') AS joined_by_key,
  COUNTIF(outcomes.way = 'label') AS joined_by_label,
  COUNTIF(outcomes.way = 'number') AS joined_by_number,
  COUNTIF(outcomes.way = 'request') AS joined_by_request,
  COUNTIF(outcomes.way = 'count') AS joined_by_count,
  COUNTIF(outcomes.request_id IS NULL) AS unmatched,
  IFNULL(SUM(usage.prompt_tokens), 0) AS prompt_tokens,
  IFNULL(SUM(usage.cached_tokens), 0) AS cached_tokens,
  IFNULL(SUM(usage.output_tokens), 0) AS output_tokens,
  IFNULL(SUM(usage.thought_tokens), 0) AS thought_tokens,
  IFNULL(SUM(usage.total_tokens), 0) AS total_tokens,
  SUM(costs.cost_usd) AS cost_usd
FROM outcomes
LEFT JOIN (
  SELECT answer_id, prompt_tokens, cached_tokens, output_tokens, thought_tokens, total_tokens
  FROM answers
  WHERE IFNULL(row_status, '') = ''
) AS usage ON usage.answer_id = outcomes.answer_id
LEFT JOIN costs ON costs.answer_id = outcomes.answer_id;

CREATE TEMP TABLE media_counts AS
SELECT
  {{media_counts}}
FROM media_tokens AS media
JOIN outcomes ON outcomes.answer_id = media.answer_id;

BEGIN TRANSACTION;

-- Asked first, because transactions that delete from the same table cancel each other, and most have nothing
-- to delete: several jobs may land in one table at once.
IF
  @truncate
  OR EXISTS (SELECT 1 FROM {{results}} WHERE job_name = @job_name)
  OR EXISTS (SELECT 1 FROM {{errors}} WHERE job_name = @job_name)
THEN
  DELETE FROM {{results}} WHERE @truncate OR job_name = @job_name;
  DELETE FROM {{errors}} WHERE @truncate OR job_name = @job_name;
END IF;

-- What was asked again is answered by this job, well or not.
IF
  EXISTS (SELECT 1 FROM {{errors}} WHERE retryable AND job_name IN UNNEST(@replaces))
THEN
  DELETE FROM {{results}}
  WHERE
    job_name IN UNNEST(@replaces)
    AND status != 'succeeded'
    AND key IN (SELECT key FROM outcomes)
    AND key IN (SELECT key FROM {{errors}} WHERE retryable AND job_name IN UNNEST(@replaces));
  DELETE FROM {{errors}}
  WHERE job_name IN UNNEST(@replaces) AND retryable AND key IN (SELECT key FROM outcomes);
END IF;

{{merge}}
INSERT INTO {{results}} (
  key, status, text, output, finish_reason, model_version, prompt_tokens, cached_tokens, output_tokens,
  thought_tokens, total_tokens, processed_at, request, response, embedding, {{schema_columns}}
  cost_usd, usage_metadata, job_labels, job_name, dag_id, task_id, run_id, landed_at
)
SELECT
  outcomes.key, outcomes.bucket, answers.text, answers.output, answers.finish_reason, answers.model_version,
  answers.prompt_tokens, answers.cached_tokens, answers.output_tokens, answers.thought_tokens,
  answers.total_tokens, answers.processed_at, {{request}}, {{response}}, IFNULL(embeddings.embedding, []),
  {{typed_columns}}
  costs.cost_usd, answers.usage_metadata, PARSE_JSON(@job_labels), @job_name, @dag_id, @task_id, @run_id, @landed_at
FROM outcomes
JOIN answers ON answers.answer_id = outcomes.answer_id
JOIN judged ON judged.answer_id = outcomes.answer_id
LEFT JOIN embeddings ON embeddings.answer_id = outcomes.answer_id
LEFT JOIN costs ON costs.answer_id = outcomes.answer_id
WHERE outcomes.bucket != 'malformed' AND {{is_wanted}};

IF
  EXISTS (SELECT 1 FROM outcomes WHERE bucket != 'succeeded')
THEN

-- No readable answer: the request, where it is known, is that of the input.
INSERT INTO {{results}} (key, status, request, job_labels, job_name, dag_id, task_id, run_id, landed_at)
SELECT
  outcomes.key, outcomes.bucket, {{missing_request}},
  PARSE_JSON(@job_labels), @job_name, @dag_id, @task_id, @run_id, @landed_at
FROM outcomes
LEFT JOIN requests ON requests.request_id = outcomes.request_id
WHERE outcomes.bucket IN ('malformed', 'missing') AND {{is_wanted}};

INSERT INTO {{errors}} (
  key, status, job_name, dag_id, task_id, run_id, landed_at,
  error_code, error_status, error_message, retryable, request, raw_line
)
SELECT
  key, bucket, @job_name, @dag_id, @task_id, @run_id, @landed_at,
  error_code,
  error_status,
  error_message,
  CASE
    WHEN bucket IN ('missing', 'malformed') THEN TRUE
    WHEN bucket != 'failed' THEN FALSE
    -- 4, 8, 13 and 14 are the gRPC codes of a deadline, of exhausted resources and of the service's own faults.
    WHEN error_code IS NOT NULL THEN error_code IN (4, 8, 13, 14, 408, 429) OR error_code BETWEEN 500 AND 599
    ELSE REGEXP_CONTAINS(
      LOWER(error_message),
      r'resource.?exhausted|too many requests|quota|deadline|timed? ?out|unavailable|internal|try again'
    )
  END,
  request,
  raw_line
FROM (
  SELECT
    key,
    bucket,
    request,
    raw_line,
    SAFE_CAST(JSON_VALUE(error, '$.code') AS INT64) AS error_code,
    CASE bucket
      WHEN 'failed' THEN IFNULL(JSON_VALUE(error, '$.status'), finish_reason)
      WHEN 'blocked' THEN IFNULL(block_reason, finish_reason)
      WHEN 'truncated' THEN finish_reason
    END AS error_status,
    CASE bucket
      WHEN 'failed' THEN COALESCE(
        JSON_VALUE(error, '$.message'),
        NULLIF(row_status, ''),
        'The answer ended with ' || finish_reason,
        'The output row holds neither an answer nor an error'
      )
      WHEN 'blocked' THEN IF(
        block_reason IS NOT NULL,
        'The prompt was blocked: ' || block_reason,
        'The answer was blocked: ' || finish_reason
      )
      WHEN 'truncated' THEN 'The answer stops in the middle: ' || finish_reason
      WHEN 'invalid' THEN 'The answer does not fit the response schema: ' || misfit
      WHEN 'malformed' THEN IF(
        way = 'count',
        'The output line is not JSON. The key is that of a request without an answer, perhaps not of this line',
        'The output line is not JSON'
      )
      WHEN 'missing' THEN 'The output has no line for this request'
    END AS error_message
  FROM (
    SELECT
      outcomes.key,
      outcomes.bucket,
      outcomes.way,
      answers.raw_line,
      answers.row_status,
      answers.finish_reason,
      answers.block_reason,
      judged.misfit,
      -- The echo has members that nobody asked for; by count alone the request is not known.
      COALESCE(
        IF(
          outcomes.way = 'count' AND outcomes.bucket != 'malformed',
          NULL,
          SAFE.PARSE_JSON({{asked_request}}, wide_number_mode => 'round')
        ),
        answers.request
      ) AS request,
      -- "Bad Request: {"error": {"code": 400, …}}": words, then JSON.
      JSON_QUERY(SAFE.PARSE_JSON(REGEXP_EXTRACT(answers.row_status, r'(?s)\{.*\}')), '$.error') AS error
    FROM outcomes
    LEFT JOIN answers ON answers.answer_id = outcomes.answer_id
    LEFT JOIN judged ON judged.answer_id = outcomes.answer_id
    LEFT JOIN requests ON requests.request_id = outcomes.request_id
    WHERE outcomes.bucket != 'succeeded' AND {{is_landed}}
  )
);
END IF;

COMMIT TRANSACTION;

-- The last result is what the worker reads.
SELECT {{written}} FROM counts CROSS JOIN media_counts;
