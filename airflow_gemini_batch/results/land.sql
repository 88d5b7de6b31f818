{% set results = landing.results.quoted %}
{% set errors = landing.errors.quoted %}
-- One row for every row of the input, and for every response without a matching request.
CREATE TEMP TABLE outcomes AS
SELECT
  *,
{% if landing.merges %}
  -- Rows without a key are never duplicates of each other.
  key IS NULL
  OR ROW_NUMBER() OVER (
    PARTITION BY key
    ORDER BY status = 'succeeded' DESC, processed_at DESC, response_id
  ) = 1 AS is_best
{% else %}
  TRUE AS is_best
{% endif %}
FROM (
  SELECT
    classified.response_id,
    matches.request_id,
    matches.joined_by,
    classified.status,
    classified.processed_at,
    COALESCE(
      IF(matches.joined_by = 'count' AND classified.status != 'malformed', NULL, requests.name),
      classified.name,
      digests.digest
    ) AS key
  FROM classified
  LEFT JOIN matches ON matches.response_id = classified.response_id
  LEFT JOIN (SELECT request_id, name FROM requests) AS requests ON requests.request_id = matches.request_id
  LEFT JOIN digests ON digests.response_id = classified.response_id
  WHERE matches.response_id IS NULL OR matches.request_id IS NOT NULL
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
  WHERE requests.request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
);

-- Failed rows are not charged.
CREATE TEMP TABLE counts AS
SELECT
  @landed_at AS landed_at,
  (SELECT COUNT(*) FROM requests) AS input_rows,
  (SELECT COUNT(*) FROM responses) AS output_rows,
  (SELECT COUNT(*) FROM matches WHERE request_id IS NULL) AS duplicates,
{% for status in statuses %}
  COUNTIF(outcomes.status = '{{ status }}') AS {{ status }},
{% endfor %}
{% for way in ways %}
  COUNTIF(outcomes.joined_by = '{{ way }}') AS joined_by_{{ way }},
{% endfor %}
  COUNTIF(outcomes.request_id IS NULL) AS unmatched,
  IFNULL(SUM(usage.prompt_tokens), 0) AS prompt_tokens,
  IFNULL(SUM(usage.cached_tokens), 0) AS cached_tokens,
  IFNULL(SUM(usage.output_tokens), 0) AS output_tokens,
  IFNULL(SUM(usage.thought_tokens), 0) AS thought_tokens,
  IFNULL(SUM(usage.total_tokens), 0) AS total_tokens,
  SUM(costs.cost_usd) AS cost_usd
FROM outcomes
LEFT JOIN (
  SELECT response_id, prompt_tokens, cached_tokens, output_tokens, thought_tokens, total_tokens
  FROM responses
  WHERE IFNULL(row_status, '') = ''
) AS usage ON usage.response_id = outcomes.response_id
LEFT JOIN costs ON costs.response_id = outcomes.response_id;

CREATE TEMP TABLE media_counts AS
SELECT
{% for kind, modality, column in media_columns %}
  IFNULL(SUM(IF(media.kind = '{{ kind }}' AND media.modality = '{{ modality }}', media.tokens, 0)), 0)
    AS {{ column }}{{ "," if not loop.last }}
{% endfor %}
FROM media_tokens AS media
JOIN outcomes ON outcomes.response_id = media.response_id;

BEGIN TRANSACTION;

-- Check first: concurrent transactions that delete from the same table cancel each other. Most landings have
-- nothing to delete, so several jobs can land in one table at the same time.
IF
  @truncate
  OR EXISTS (SELECT 1 FROM {{ results }} WHERE job_name = @job_name)
  OR EXISTS (SELECT 1 FROM {{ errors }} WHERE job_name = @job_name)
THEN
  DELETE FROM {{ results }} WHERE @truncate OR job_name = @job_name;
  DELETE FROM {{ errors }} WHERE @truncate OR job_name = @job_name;
END IF;

-- This job replaces the rows of the requests that it resubmitted, whether they succeeded or not.
IF
  EXISTS (SELECT 1 FROM {{ errors }} WHERE retryable AND job_name IN UNNEST(@replaces))
THEN
  DELETE FROM {{ results }}
  WHERE
    job_name IN UNNEST(@replaces)
    AND status != 'succeeded'
    AND key IN (SELECT key FROM outcomes)
    AND key IN (SELECT key FROM {{ errors }} WHERE retryable AND job_name IN UNNEST(@replaces));
  DELETE FROM {{ errors }}
  WHERE job_name IN UNNEST(@replaces) AND retryable AND key IN (SELECT key FROM outcomes);
END IF;

{% if landing.merges %}
{% include "results/merge.sql" %}

{% endif %}
INSERT INTO {{ results }} (
  key, status, text, output, finish_reason, model_version, prompt_tokens, cached_tokens, output_tokens,
  thought_tokens, total_tokens, processed_at, request, response, embedding,
{% for column in landing.columns %}
  `{{ column.name }}`,
{% endfor %}
  cost_usd, usage_metadata, job_labels, job_name, dag_id, task_id, run_id, landed_at
)
SELECT
  outcomes.key, outcomes.status, responses.text, responses.output, responses.finish_reason,
  responses.model_version, responses.prompt_tokens, responses.cached_tokens, responses.output_tokens,
  responses.thought_tokens, responses.total_tokens, responses.processed_at,
  {{ "responses.request" if landing.stores_requests else "CAST(NULL AS JSON)" }},
  {{ "responses.response" if landing.stores_responses else "CAST(NULL AS JSON)" }},
  IFNULL(embeddings.embedding, []),
{% for column in landing.columns %}
  classified.column_{{ loop.index0 }},
{% endfor %}
  costs.cost_usd, responses.usage_metadata, PARSE_JSON(@job_labels), @job_name, @dag_id, @task_id, @run_id,
  @landed_at
FROM outcomes
JOIN responses ON responses.response_id = outcomes.response_id
JOIN classified ON classified.response_id = outcomes.response_id
LEFT JOIN embeddings ON embeddings.response_id = outcomes.response_id
LEFT JOIN costs ON costs.response_id = outcomes.response_id
WHERE
  outcomes.status != 'malformed'
{% if landing.merges %}
  AND outcomes.is_best
  AND (outcomes.key IS NULL OR outcomes.key NOT IN (SELECT key FROM {{ results }} WHERE key IS NOT NULL))
{% endif %}
;

IF
  EXISTS (SELECT 1 FROM outcomes WHERE status != 'succeeded')
THEN

-- Rows without a readable response: the request is the one from the input, if known.
INSERT INTO {{ results }} (key, status, request, job_labels, job_name, dag_id, task_id, run_id, landed_at)
SELECT
  outcomes.key, outcomes.status,
{% if landing.stores_requests %}
  SAFE.PARSE_JSON({{ input_request }}, wide_number_mode => 'round'),
{% else %}
  CAST(NULL AS JSON),
{% endif %}
  PARSE_JSON(@job_labels), @job_name, @dag_id, @task_id, @run_id, @landed_at
FROM outcomes
LEFT JOIN requests ON requests.request_id = outcomes.request_id
WHERE
  outcomes.status IN ('malformed', 'missing')
{% if landing.merges %}
  AND outcomes.is_best
  AND (outcomes.key IS NULL OR outcomes.key NOT IN (SELECT key FROM {{ results }} WHERE key IS NOT NULL))
{% endif %}
;

INSERT INTO {{ errors }} (
  key, status, job_name, dag_id, task_id, run_id, landed_at,
  error_code, error_status, error_message, retryable, request, raw_line
)
SELECT
  key, status, @job_name, @dag_id, @task_id, @run_id, @landed_at,
  error_code,
  error_status,
  error_message,
  CASE
    WHEN status IN ('missing', 'malformed') THEN TRUE
    WHEN status != 'failed' THEN FALSE
    -- 4, 8, 13 and 14 are gRPC's DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL and UNAVAILABLE.
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
    status,
    request,
    raw_line,
    SAFE_CAST(JSON_VALUE(error, '$.code') AS INT64) AS error_code,
    CASE status
      WHEN 'failed' THEN IFNULL(JSON_VALUE(error, '$.status'), finish_reason)
      WHEN 'blocked' THEN IFNULL(block_reason, finish_reason)
      WHEN 'truncated' THEN finish_reason
    END AS error_status,
    CASE status
      WHEN 'failed' THEN COALESCE(
        JSON_VALUE(error, '$.message'),
        NULLIF(row_status, ''),
        'The response ended with finish reason ' || finish_reason,
        'The output row contains neither a response nor an error'
      )
      WHEN 'blocked' THEN IF(
        block_reason IS NOT NULL,
        'The prompt was blocked: ' || block_reason,
        'The response was blocked: ' || finish_reason
      )
      WHEN 'truncated' THEN 'The response was cut off: ' || finish_reason
      WHEN 'invalid' THEN 'The response does not match the response schema: ' || misfit
      WHEN 'malformed' THEN IF(
        joined_by = 'count',
        'The output line is not JSON. Its key is a guess: one of a request that has no response',
        'The output line is not JSON'
      )
      WHEN 'missing' THEN 'The output has no line for this request'
    END AS error_message
  FROM (
    SELECT
      outcomes.key,
      outcomes.status,
      outcomes.joined_by,
      responses.raw_line,
      responses.row_status,
      responses.finish_reason,
      responses.block_reason,
      classified.misfit,
      -- The request in the output has members that the input lacks. A match by count does not identify it.
      COALESCE(
        IF(
          outcomes.joined_by = 'count' AND outcomes.status != 'malformed',
          NULL,
          SAFE.PARSE_JSON({{ input_request }}, wide_number_mode => 'round')
        ),
        responses.request
      ) AS request,
      -- "Bad Request: {"error": {"code": 400, …}}": words, then JSON.
      JSON_QUERY(SAFE.PARSE_JSON(REGEXP_EXTRACT(responses.row_status, r'(?s)\{.*\}')), '$.error') AS error
    FROM outcomes
    LEFT JOIN responses ON responses.response_id = outcomes.response_id
    LEFT JOIN classified ON classified.response_id = outcomes.response_id
    LEFT JOIN requests ON requests.request_id = outcomes.request_id
    WHERE
      outcomes.status != 'succeeded'
{% if landing.merges %}
      AND outcomes.is_best
      AND (outcomes.key IS NULL OR outcomes.key IN (SELECT key FROM {{ results }} WHERE job_name = @job_name))
{% endif %}
  )
);
END IF;

COMMIT TRANSACTION;

-- The worker reads this last result.
SELECT
{% if landing.merges %}
  (SELECT COUNT(*) FROM {{ results }} WHERE job_name = @job_name) AS result_rows,
  (SELECT COUNT(*) FROM {{ errors }} WHERE job_name = @job_name) AS error_rows,
{% endif %}
  *
FROM counts
CROSS JOIN media_counts;
