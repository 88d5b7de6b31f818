{% from "requests/in_bigquery/error_rows.jinja" import is_of %}
{% set results = landing.results.quoted %}
{% set errors = landing.errors.quoted %}
{# Whether a row is of the request of an outcome; those of unknown requests are of every request of their key. #}
{% macro same_request(row) -%}
(
          {{ row }}.request_fingerprint IS NULL
          OR outcomes.fingerprint IS NULL
          OR {{ row }}.request_fingerprint = outcomes.fingerprint
          OR {{ row }}.request_fingerprint = outcomes.labeled_fingerprint
        )
{%- endmacro %}
{% macro that_resubmitted(jobs) %}
WITH RECURSIVE later AS (
  SELECT DISTINCT job_name
  FROM {{ landing.claims.quoted }}
  WHERE job_name IS NOT NULL AND failed_job IN ({{ jobs }})
  UNION ALL
  SELECT claims.job_name
  FROM later
  JOIN (SELECT DISTINCT failed_job, job_name FROM {{ landing.claims.quoted }} WHERE job_name IS NOT NULL) AS claims
    ON claims.failed_job = later.job_name
)
SELECT DISTINCT job_name FROM later;
{%- endmacro %}
{% if landing.claims %}
-- The jobs that have resubmitted failures of this job, and those that have resubmitted theirs.
CREATE TEMP TABLE resubmitted_by AS
{{ that_resubmitted("@job_name") }}

{% if landing.truncates %}
-- The same for jobs that this task has landed before in this DAG run.
CREATE TEMP TABLE resubmitted_earlier_by AS
{% set earlier %}
    SELECT job_name
    FROM {{ results }}
    WHERE
      job_name != @job_name
      AND dag_id = @dag_id
      AND run_id = @run_id
      AND task_id = @task_id
      AND map_index = @map_index
{%- endset %}
{{ that_resubmitted(earlier) }}

{% endif %}
{% endif %}
{% if landing.merges %}
-- The key of a row without one is the digest of its request. Of equal requests a merge would keep one answer.
IF
  EXISTS (SELECT 1 FROM outcomes WHERE is_keyless AND key IS NOT NULL GROUP BY key HAVING COUNT(*) > 1)
THEN
  SELECT ERROR(CAST(SUM(peers) AS STRING) || ' rows have no key and equal requests')
  FROM (SELECT COUNT(*) AS peers FROM outcomes WHERE is_keyless AND key IS NOT NULL GROUP BY key)
  WHERE peers > 1;
END IF;

{% endif %}
BEGIN TRANSACTION;

{% if landing.lock %}
-- Landings that depend on what other landings have written take turns: each changes this row first. Of two
-- transactions that change rows of one table at the same time, BigQuery cancels one; it then runs again.
UPDATE {{ landing.lock.quoted }} SET job_name = @job_name, locked_at = CURRENT_TIMESTAMP() WHERE TRUE;

IF
  NOT EXISTS (SELECT 1 FROM {{ landing.lock.quoted }})
THEN
  SELECT ERROR('Table {{ landing.lock }} has lost its row. Drop the table; the next landing creates it again.');
END IF;

{% endif %}
SET landing_time = CURRENT_TIMESTAMP();

{% if landing.truncates %}
-- The jobs of one DAG run keep each other's rows, since a mapped task lands each on its own. Of this task, with
-- this map index, only the job that lands now stays: of an earlier one, what was resubmitted goes too.
{% set stays %}
(
    IFNULL(
      job_name != @job_name
      AND dag_id = @dag_id
      AND run_id = @run_id
      AND NOT IFNULL(task_id = @task_id AND map_index = @map_index, FALSE),
      FALSE
    )
{% if landing.claims %}
    AND job_name NOT IN (SELECT job_name FROM resubmitted_earlier_by)
{% endif %}
  )
{%- endset %}
DELETE FROM {{ errors }}
WHERE
  {{ is_of(landing.results, landing.errors) }}
  AND NOT {{ stays }};

DELETE FROM {{ results }}
WHERE
  NOT {{ stays }};
{% else %}
-- Check first: concurrent transactions that delete from the same table cancel each other. Most landings have
-- nothing to delete, so several jobs can land in one table at the same time.
IF
  EXISTS (SELECT 1 FROM {{ results }} WHERE job_name = @job_name)
  OR EXISTS (SELECT 1 FROM {{ errors }} WHERE job_name = @job_name AND {{ is_of(landing.results, landing.errors) }})
THEN
  DELETE FROM {{ errors }} WHERE job_name = @job_name AND {{ is_of(landing.results, landing.errors) }};
  DELETE FROM {{ results }} WHERE job_name = @job_name;
END IF;
{% endif %}

{% if landing.claims %}
-- A failure whose request was resubmitted since has a newer row, which stays the only one.
DELETE FROM outcomes
WHERE
  outcomes.status IN ('failed', 'malformed', 'missing')
  AND EXISTS (
    SELECT 1
    FROM {{ results }} AS landed
    WHERE
      landed.key = outcomes.key
      AND {{ same_request("landed") }}
      AND landed.job_name IN (SELECT job_name FROM resubmitted_by)
  );

{% endif %}
{% if landing.replaces %}
-- This job replaces the rows of the requests that it resubmitted, whether they succeeded or not.
IF
  EXISTS (
    SELECT 1
    FROM {{ errors }}
    WHERE retryable AND job_name IN UNNEST(@replaces) AND {{ is_of(landing.results, landing.errors) }}
  )
THEN
  DELETE FROM {{ results }} AS landed
  WHERE
    landed.job_name IN UNNEST(@replaces)
    AND landed.status != 'succeeded'
    AND EXISTS (
      SELECT 1
      FROM {{ errors }} AS failures
      JOIN outcomes
        ON outcomes.key = failures.key AND {{ same_request("failures") }}
      WHERE
        failures.retryable
        AND failures.job_name = landed.job_name
        AND failures.key = landed.key
        AND failures.status = landed.status
        AND IFNULL(failures.request_fingerprint = landed.request_fingerprint, TRUE)
        AND {{ is_of(landing.results, landing.errors, "failures") }}
    );
  DELETE FROM {{ errors }} AS failures
  WHERE
    failures.retryable
    AND failures.job_name IN UNNEST(@replaces)
    AND {{ is_of(landing.results, landing.errors, "failures") }}
    AND EXISTS (
      SELECT 1
      FROM outcomes
      WHERE
        outcomes.key = failures.key
        AND {{ same_request("failures") }}
    );
END IF;

{% endif %}
{% if landing.merges %}
{% include "results/merge.sql" %}

{% endif %}
INSERT INTO {{ results }} (
  key, status, text, output, finish_reason, model_version, prompt_tokens, cached_tokens, output_tokens,
  thought_tokens, total_tokens, processed_at, request, response, embedding,
{% for column in landing.columns %}
  `{{ column.name }}`,
{% endfor %}
  cost_usd, usage_metadata, job_labels, job_name, dag_id, task_id, run_id, map_index, landed_at,
  request_fingerprint, search_queries
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
  @map_index, landing_time, outcomes.fingerprint, costs.search_queries
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
INSERT INTO {{ results }} (
  key, status, request, job_labels, job_name, dag_id, task_id, run_id, map_index, landed_at, request_fingerprint
)
SELECT
  outcomes.key, outcomes.status,
{% if landing.stores_requests %}
  SAFE.PARSE_JSON({{ input_request }}, wide_number_mode => 'round'),
{% else %}
  CAST(NULL AS JSON),
{% endif %}
  PARSE_JSON(@job_labels), @job_name, @dag_id, @task_id, @run_id, @map_index, landing_time,
  outcomes.fingerprint
FROM outcomes
LEFT JOIN requests ON requests.request_id = outcomes.request_id
WHERE
  outcomes.status IN ('malformed', 'missing')
{% if landing.merges %}
  AND outcomes.is_best
  AND (outcomes.key IS NULL OR outcomes.key NOT IN (SELECT key FROM {{ results }} WHERE key IS NOT NULL))
{% endif %}
;

{% if landing.replaces %}
-- A retry has asked for these requests again. One that is charged, but whose line is lost or not readable, would
-- be charged in every round.
SET lost_rows_are_charged = IFNULL(
  @charged_rows > (SELECT COUNT(*) FROM responses WHERE raw_line IS NULL AND IFNULL(row_status, '') = ''), FALSE
);

{% endif %}
INSERT INTO {{ errors }} (
  key, status, job_name, dag_id, task_id, run_id, map_index, landed_at, results_table,
  error_code, error_status, error_message, retryable, request, request_fingerprint, raw_line
)
SELECT
  key, status, @job_name, @dag_id, @task_id, @run_id, @map_index, landing_time, '{{ landing.results }}',
  error_code,
  error_status,
  error_message,
  CASE
{% if landing.replaces %}
    WHEN status IN ('missing', 'malformed') AND lost_rows_are_charged THEN FALSE
{% endif %}
    WHEN status = 'missing' THEN request IS NOT NULL
    WHEN status = 'malformed' THEN TRUE
    WHEN status != 'failed' THEN FALSE
    WHEN is_empty THEN TRUE
    WHEN error_code BETWEEN 1 AND 99 THEN error_code IN ({{ passing_codes | join(", ") }})
    WHEN error_code IS NOT NULL THEN error_code IN (408, 429) OR error_code BETWEEN 500 AND 599
    WHEN error_status IN ({% for code in passing_codes %}'{{ code_names[code] }}'{{ ", " if not loop.last }}{% endfor %}) THEN TRUE
    ELSE REGEXP_CONTAINS(
      LOWER(error_message),
      r'resource.?exhausted|too many requests|quota|deadline|timed? ?out|unavailable|internal|try again'
    )
  END,
  request,
  fingerprint,
  raw_line
FROM (
  SELECT
    key,
    status,
    request,
    fingerprint,
    raw_line,
    is_empty,
    SAFE_CAST(JSON_VALUE(error, '$.code') AS INT64) AS error_code,
    CASE status
      WHEN 'failed' THEN COALESCE(
        JSON_VALUE(error, '$.status'),
        CASE JSON_VALUE(error, '$.code')
{% for code, name in code_names.items() %}
          WHEN '{{ code }}' THEN '{{ name }}'
{% endfor %}
        END,
        finish_reason
      )
      WHEN 'blocked' THEN IFNULL(block_reason, finish_reason)
      WHEN 'truncated' THEN finish_reason
    END AS error_status,
    CASE status
      WHEN 'failed' THEN COALESCE(
        NULLIF(JSON_VALUE(error, '$.message'), ''),
        NULLIF(row_status, ''),
        IF(is_empty, 'The model stopped normally but gave an empty answer', NULL),
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
      WHEN 'missing' THEN IF(
        request IS NULL,
        'The output has too few lines, and the input that would show which are missing is unknown',
        'The output has no line for this request'
      )
    END AS error_message
  FROM (
    SELECT
      outcomes.key,
      outcomes.status,
      outcomes.joined_by,
      outcomes.fingerprint,
      responses.raw_line,
      responses.row_status,
      responses.finish_reason,
      responses.block_reason,
      classified.misfit,
      classified.status = 'failed' AND responses.row_status = '' AND classified.is_empty AS is_empty,
      -- The request in the output has members that the input lacks. A match by count does not identify it.
      COALESCE(
        IF(
          outcomes.joined_by = 'count' AND outcomes.status != 'malformed',
          NULL,
          SAFE.PARSE_JSON({{ input_request }}, wide_number_mode => 'round')
        ),
        responses.request
      ) AS request,
      status_error(responses.row_status) AS error
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
  landing_time AS landed_at,
{% if landing.merges %}
  (SELECT COUNT(*) FROM {{ results }} WHERE job_name = @job_name) AS result_rows,
  (SELECT COUNT(*) FROM {{ errors }} WHERE job_name = @job_name AND {{ is_of(landing.results, landing.errors) }})
    AS error_rows,
{% else %}
  (SELECT COUNT(*) FROM outcomes) AS result_rows,
  (SELECT COUNTIF(status != 'succeeded') FROM outcomes) AS error_rows,
{% endif %}
  *
FROM counts
CROSS JOIN media_counts;
