{% from "requests/in_bigquery/error_rows.jinja" import is_of, oldest_failure %}
{% from "results/tables.jinja" import rows_of, where, of_jobs %}
{% set results = landing.results.quoted %}
{% set errors = landing.errors.quoted %}
{% set result_rows = rows_of(landing.results, landing.results_filter) %}
{% set error_rows = rows_of(landing.errors, landing.errors_filter) %}
{# Whether a row is of the request of an outcome; those of unknown requests are of every request of their key. #}
{% macro same_request(row) -%}
(
          {{ row }}.request_fingerprint IS NULL
          OR outcomes.fingerprint IS NULL
          OR {{ row }}.request_fingerprint = outcomes.fingerprint
          OR {{ row }}.request_fingerprint = outcomes.labeled_fingerprint
        )
{%- endmacro %}
{# The labels of a job are parsed once, not for each of its rows. #}
{% set jobs_with_labels = "(SELECT jobs.number, jobs.name, PARSE_JSON(jobs.labels) AS labels FROM UNNEST(@jobs) AS jobs)" %}
{% macro that_resubmitted(jobs) %}
WITH RECURSIVE later AS (
  SELECT DISTINCT failed_job, job_name
  FROM {{ landing.claims.quoted }}
  WHERE job_name IS NOT NULL AND failed_job IN {{ jobs }}
  UNION ALL
  SELECT later.failed_job, claims.job_name
  FROM later
  JOIN (SELECT DISTINCT failed_job, job_name FROM {{ landing.claims.quoted }} WHERE job_name IS NOT NULL) AS claims
    ON claims.failed_job = later.job_name
)
SELECT DISTINCT failed_job, job_name FROM later;
{%- endmacro %}
{% if landing.claims %}
-- The jobs that have resubmitted failures of a job, and those that have resubmitted theirs.
CREATE TEMP TABLE resubmitted_by AS
{{ that_resubmitted("UNNEST(@job_names)") }}

{% if landing.truncates %}
-- The same for jobs that this task has landed before in this DAG run.
CREATE TEMP TABLE resubmitted_earlier_by AS
{% set earlier %}
(
    SELECT job_name
    FROM {{ result_rows }}
    WHERE
      job_name NOT IN UNNEST(@job_names)
      AND dag_id = @dag_id
      AND run_id = @run_id
      AND task_id = @task_id
      AND map_index = @map_index
  )
{%- endset %}
{{ that_resubmitted(earlier) }}

{% endif %}
{% endif %}
{% if landing.merges %}
-- The key of a row without one is the digest of its request. Of equal requests a merge would keep one answer.
IF
  EXISTS (SELECT 1 FROM outcomes WHERE is_keyless AND key IS NOT NULL GROUP BY job, key HAVING COUNT(*) > 1)
THEN
  SELECT ERROR(CAST(SUM(peers) AS STRING) || ' rows have no key and equal requests')
  FROM (SELECT COUNT(*) AS peers FROM outcomes WHERE is_keyless AND key IS NOT NULL GROUP BY job, key)
  WHERE peers > 1;
END IF;

{% endif %}
BEGIN TRANSACTION;

{% if landing.lock %}
-- Landings that depend on what other landings have written take turns: each changes this row first. Of two
-- transactions that change rows of one table at the same time, BigQuery cancels one; it then runs again.
UPDATE {{ landing.lock.quoted }} SET job_name = @job_names[OFFSET(0)], locked_at = CURRENT_TIMESTAMP() WHERE TRUE;

IF
  NOT EXISTS (SELECT 1 FROM {{ landing.lock.quoted }})
THEN
  SELECT ERROR('Table {{ landing.lock }} has lost its row. Drop the table; the next landing creates it again.');
END IF;

{% endif %}
SET landing_time = CURRENT_TIMESTAMP();

{% if landing.truncates %}
-- The jobs of one DAG run keep each other's rows, since a mapped task lands each on its own. Of this task, with
-- this map index, only what lands now stays: of an earlier job, what was resubmitted goes too.
{% set stays %}
(
    IFNULL(
      job_name NOT IN UNNEST(@job_names)
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
-- TRUNCATE costs nothing. DELETE costs as much as reading every partition that it changes.
IF
  EXISTS (SELECT 1 FROM {{ error_rows }} WHERE NOT {{ is_of(landing.results, landing.errors) }} OR {{ stays }})
THEN
  DELETE FROM {{ errors }}
  WHERE
    {{ where(landing.errors_filter) }}{{ is_of(landing.results, landing.errors) }}
    AND NOT {{ stays }};
ELSE
  TRUNCATE TABLE {{ errors }};
END IF;

IF
  EXISTS (SELECT 1 FROM {{ result_rows }} WHERE {{ stays }})
THEN
  DELETE FROM {{ results }}
  WHERE
    {{ where(landing.results_filter) }}NOT {{ stays }};
ELSE
  TRUNCATE TABLE {{ results }};
END IF;
{% else %}
-- Check first: concurrent transactions that delete from the same table cancel each other. Most landings have
-- nothing to delete, so several jobs can land in one table at the same time.
IF
  EXISTS (SELECT 1 FROM {{ result_rows }} WHERE {{ of_jobs() }})
  OR EXISTS (
    SELECT 1
    FROM {{ error_rows }}
    WHERE {{ of_jobs() }} AND {{ is_of(landing.results, landing.errors) }}
  )
THEN
  DELETE FROM {{ errors }}
  WHERE {{ where(landing.errors_filter) }}{{ of_jobs() }} AND {{ is_of(landing.results, landing.errors) }};
  DELETE FROM {{ results }} WHERE {{ where(landing.results_filter) }}{{ of_jobs() }};
END IF;
{% endif %}

{% if landing.claims %}
-- A failure whose request was resubmitted since has a newer row, which stays the only one.
UPDATE outcomes SET is_written = FALSE
WHERE
  outcomes.status IN ('failed', 'malformed', 'missing')
  AND EXISTS (
    SELECT 1
    FROM {{ result_rows }} AS landed
    JOIN resubmitted_by ON resubmitted_by.job_name = landed.job_name
    JOIN UNNEST(@jobs) AS jobs ON jobs.name = resubmitted_by.failed_job
    WHERE
      landed.key = outcomes.key
      AND landed.landed_at >= @since
      AND jobs.number = outcomes.job
      AND {{ same_request("landed") }}
  );

{% endif %}
{% if landing.replaces %}
-- These jobs replace the rows of the requests that they resubmitted, whether they succeeded or not. Older
-- partitions than those of the failures are not read.
SET failed_since = {{ oldest_failure(error_rows, landing.results, landing.errors, "@replaces") }};

IF
  failed_since IS NOT NULL
THEN
  DELETE FROM {{ results }} AS landed
  WHERE
    {{ where(landing.results_filter) }}landed.landed_at >= failed_since
    AND landed.job_name IN UNNEST(@replaces)
    AND landed.status != 'succeeded'
    AND EXISTS (
      SELECT 1
      FROM {{ error_rows }} AS failures
      JOIN outcomes
        ON outcomes.key = failures.key AND {{ same_request("failures") }}
      WHERE
        failures.retryable
        AND failures.landed_at >= failed_since
        AND failures.job_name = landed.job_name
        AND failures.key = landed.key
        AND failures.status = landed.status
        AND IFNULL(failures.request_fingerprint = landed.request_fingerprint, TRUE)
        AND {{ is_of(landing.results, landing.errors, "failures") }}
    );
  DELETE FROM {{ errors }} AS failures
  WHERE
    {{ where(landing.errors_filter) }}failures.landed_at >= failed_since
    AND failures.retryable
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
  request_fingerprint, search_queries, source_uri
)
SELECT
  outcomes.key, outcomes.status, responses.text, responses.output, responses.finish_reason,
  responses.model_version, responses.prompt_tokens, responses.cached_tokens, responses.output_tokens,
  responses.thought_tokens, responses.total_tokens, outcomes.processed_at,
  {{ "responses.request" if landing.stores_requests else "CAST(NULL AS JSON)" }},
  {{ "responses.response" if landing.stores_responses else "CAST(NULL AS JSON)" }},
  IFNULL(embeddings.embedding, []),
{% for column in landing.columns %}
  responses.column_{{ loop.index0 }},
{% endfor %}
  outcomes.cost_usd, responses.usage_metadata, jobs.labels, jobs.name, @dag_id, @task_id, @run_id,
  @map_index, landing_time, outcomes.fingerprint, outcomes.search_queries, outcomes.source_uri
FROM outcomes
JOIN {{ jobs_with_labels }} AS jobs ON jobs.number = outcomes.job
JOIN responses ON responses.response_id = outcomes.response_id
LEFT JOIN (
  -- The only vector, or the first of several. A vector with a NULL in it is dropped as a whole.
  SELECT
    response_id,
    (
      SELECT IF(COUNTIF(number IS NULL) = 0, ARRAY_AGG(number IGNORE NULLS ORDER BY position), NULL)
      FROM (
        SELECT position, as_float64(item) AS number
        FROM UNNEST(
          JSON_QUERY_ARRAY(
            as_array(
              IFNULL(JSON_QUERY(response, '$.embedding.values'), JSON_QUERY(response, '$.embeddings[0].values'))
            )
          )
        ) AS item WITH OFFSET AS position
      )
    ) AS embedding
  FROM (SELECT response_id, response FROM responses WHERE is_embedding)
) AS embeddings ON embeddings.response_id = outcomes.response_id
WHERE
  outcomes.status != 'malformed'
  AND outcomes.is_written
{% if landing.merges %}
  AND (outcomes.key IS NULL OR outcomes.key NOT IN (SELECT key FROM {{ result_rows }} WHERE key IS NOT NULL))
{% endif %}
;

IF
  EXISTS (SELECT 1 FROM outcomes WHERE status != 'succeeded' AND is_written)
THEN

-- Rows without a readable response: the request is the one from the input, if known.
INSERT INTO {{ results }} (
  key, status, request, job_labels, job_name, dag_id, task_id, run_id, map_index, landed_at, request_fingerprint,
  source_uri
)
SELECT
  outcomes.key, outcomes.status,
{% if landing.stores_requests %}
  SAFE.PARSE_JSON(requests.source, wide_number_mode => 'round'),
{% else %}
  CAST(NULL AS JSON),
{% endif %}
  jobs.labels, jobs.name, @dag_id, @task_id, @run_id, @map_index, landing_time,
  outcomes.fingerprint, outcomes.source_uri
FROM outcomes
JOIN {{ jobs_with_labels }} AS jobs ON jobs.number = outcomes.job
LEFT JOIN requests ON requests.request_id = outcomes.request_id
WHERE
  outcomes.status IN ('malformed', 'missing')
  AND outcomes.is_written
{% if landing.merges %}
  AND (outcomes.key IS NULL OR outcomes.key NOT IN (SELECT key FROM {{ result_rows }} WHERE key IS NOT NULL))
{% endif %}
;

{% if landing.replaces %}
-- A retry has asked for these requests again. One that is charged, but whose line is lost or not readable, would
-- be charged in every round.
SET lost_rows_are_charged = IFNULL(
  (SELECT SUM(jobs.charged_rows) FROM UNNEST(@jobs) AS jobs)
    > (SELECT COUNT(*) FROM responses WHERE raw_line IS NULL AND IFNULL(row_status, '') = ''),
  FALSE
);

{% endif %}
INSERT INTO {{ errors }} (
  key, status, job_name, dag_id, task_id, run_id, map_index, landed_at, results_table,
  error_code, error_status, error_message, retryable, request, request_fingerprint, raw_line
)
SELECT
  key, status, job_name, @dag_id, @task_id, @run_id, @map_index, landing_time, '{{ landing.results }}',
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
    job_name,
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
      jobs.name AS job_name,
      outcomes.key,
      outcomes.status,
      outcomes.joined_by,
      outcomes.fingerprint,
      responses.raw_line,
      responses.row_status,
      responses.finish_reason,
      responses.block_reason,
      responses.misfit,
      outcomes.status = 'failed' AND responses.row_status = '' AND responses.is_empty AS is_empty,
      -- The request in the output has members that the input lacks. A match by count does not identify it.
      COALESCE(
        IF(
          outcomes.joined_by = 'count' AND outcomes.status != 'malformed',
          NULL,
          SAFE.PARSE_JSON(requests.source, wide_number_mode => 'round')
        ),
        responses.request
      ) AS request,
      status_error(responses.row_status) AS error
    FROM outcomes
    JOIN UNNEST(@jobs) AS jobs ON jobs.number = outcomes.job
    LEFT JOIN responses ON responses.response_id = outcomes.response_id
    LEFT JOIN requests ON requests.request_id = outcomes.request_id
    WHERE
      outcomes.status != 'succeeded'
      AND outcomes.is_written
{% if landing.merges %}
      AND (
        outcomes.key IS NULL
        OR outcomes.key IN (SELECT key FROM {{ result_rows }} WHERE {{ of_jobs() }})
      )
{% endif %}
  )
);
END IF;

COMMIT TRANSACTION;

-- The worker reads this last result: a row for each job. Failed rows are not charged.
SELECT
  jobs.name AS job_name,
  landing_time AS landed_at,
{% if landing.lock %}
  0 AS rival_rows,
{% else %}
  -- Of another landing of these jobs that has written at the same time.
  (
    SELECT COUNT(*)
    FROM {{ result_rows }}
    WHERE {{ of_jobs() }} AND landed_at != landing_time
  ) AS rival_rows,
{% endif %}
{% if landing.merges %}
  IFNULL(kept.result_rows, 0) AS result_rows,
  IFNULL(failures.error_rows, 0) AS error_rows,
{% else %}
  IFNULL(found.result_rows, 0) AS result_rows,
  IFNULL(found.error_rows, 0) AS error_rows,
{% endif %}
  IFNULL(asked.input_rows, 0) AS input_rows,
  IFNULL(asked.named_rows, 0) AS named_rows,
  IFNULL(answered.output_rows, 0) AS output_rows,
  IFNULL(answered.duplicates, 0) AS duplicates,
{% for status in statuses %}
  IFNULL(found.{{ status }}, 0) AS {{ status }},
{% endfor %}
{% for way in ways %}
  IFNULL(found.joined_by_{{ way }}, 0) AS joined_by_{{ way }},
{% endfor %}
  IFNULL(found.unmatched, 0) AS unmatched,
{% for kind in token_kinds %}
  IFNULL(found.{{ kind }}_tokens, 0) AS {{ kind }}_tokens,
{% endfor %}
{% for _, _, column in media_columns %}
  IFNULL(found.{{ column }}, 0) AS {{ column }},
{% endfor %}
  IFNULL(found.search_queries, 0) AS search_queries,
  found.cost_usd
FROM UNNEST(@jobs) AS jobs
LEFT JOIN (SELECT job, COUNT(*) AS input_rows, COUNT(name) AS named_rows FROM requests GROUP BY job) AS asked
  ON asked.job = jobs.number
LEFT JOIN (
  SELECT
    responses.job,
    COUNT(*) AS output_rows,
    COUNTIF(matches.response_id IS NOT NULL AND matches.request_id IS NULL) AS duplicates
  FROM responses
  LEFT JOIN matches ON matches.response_id = responses.response_id
  GROUP BY responses.job
) AS answered
  ON answered.job = jobs.number
LEFT JOIN (
  SELECT
    outcomes.job,
    COUNTIF(outcomes.is_written) AS result_rows,
    COUNTIF(outcomes.is_written AND outcomes.status != 'succeeded') AS error_rows,
{% for status in statuses %}
    COUNTIF(outcomes.status = '{{ status }}') AS {{ status }},
{% endfor %}
{% for way in ways %}
    COUNTIF(outcomes.joined_by = '{{ way }}') AS joined_by_{{ way }},
{% endfor %}
    COUNTIF(outcomes.request_id IS NULL AND outcomes.status != 'missing') AS unmatched,
{% for kind in token_kinds %}
    SUM(IF(responses.row_status = '', responses.{{ kind }}_tokens, 0)) AS {{ kind }}_tokens,
{% endfor %}
{% for _, _, column in media_columns %}
    SUM(outcomes.{{ column }}) AS {{ column }},
{% endfor %}
    SUM(outcomes.search_queries) AS search_queries,
    SUM(outcomes.cost_usd) AS cost_usd
  FROM outcomes
  LEFT JOIN responses ON responses.response_id = outcomes.response_id
  GROUP BY outcomes.job
) AS found
  ON found.job = jobs.number
{% if landing.merges %}
LEFT JOIN (
  SELECT job_name, COUNT(*) AS result_rows
  FROM {{ result_rows }}
  WHERE {{ of_jobs() }}
  GROUP BY job_name
) AS kept
  ON kept.job_name = jobs.name
LEFT JOIN (
  SELECT job_name, COUNT(*) AS error_rows
  FROM {{ error_rows }}
  WHERE {{ of_jobs() }} AND {{ is_of(landing.results, landing.errors) }}
  GROUP BY job_name
) AS failures
  ON failures.job_name = jobs.name
{% endif %}
;
