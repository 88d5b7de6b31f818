-- One row for every row of the input, and for every response without a matching request.
CREATE TEMP TABLE outcomes AS
WITH
  -- Tokens that are not text. Few responses have any, and only those are parsed.
  media_tokens AS (
    SELECT
      response_id,
{% for kind, modality, column in media_columns %}
      SUM(IF(kind = '{{ kind }}' AND modality = '{{ modality }}', tokens, 0)) AS {{ column }}{{ "," if not loop.last }}
{% endfor %}
    FROM (
      SELECT
        response_id,
        kind,
        JSON_VALUE(item, '$.modality') AS modality,
        SAFE_CAST(JSON_VALUE(item, '$.tokenCount') AS INT64) AS tokens
      FROM (
        SELECT response_id, kind, item
        FROM (
{% for kind, details in (("prompt", "prompt"), ("cached", "cache"), ("output", "candidates")) %}
          SELECT
            response_id,
            '{{ kind }}' AS kind,
            JSON_QUERY(usage_metadata, '$.{{ details }}TokensDetails') AS details
          FROM responses
          WHERE REGEXP_CONTAINS(TO_JSON_STRING(usage_metadata), r'"({{ modalities | join("|") }})"')
          {{ "UNION ALL" if not loop.last }}
{% endfor %}
        )
        CROSS JOIN UNNEST(JSON_QUERY_ARRAY(details)) AS item
      )
    )
    GROUP BY response_id
  ),
  -- The first queries of a job, in an order that is the same in every landing, are the free ones.
  searches AS (
    SELECT
      found.response_id,
      found.queries,
      GREATEST(
        LEAST(
          found.queries,
          SUM(found.queries) OVER (
            PARTITION BY found.job
            ORDER BY found.key, found.processed_at, found.queries, found.answer, found.response_id
          ) - jobs.free_searches
        ),
        0
      ) AS charged
    FROM (
      SELECT
        response_id,
        ANY_VALUE(job) AS job,
        ANY_VALUE(key) AS key,
        ANY_VALUE(processed_at) AS processed_at,
        ANY_VALUE(answer) AS answer,
        SUM(
          ARRAY_LENGTH(JSON_QUERY_ARRAY(as_array(JSON_QUERY(candidate, '$.groundingMetadata.webSearchQueries'))))
        ) AS queries
      FROM (
        SELECT
          response_id,
          job,
          key,
          processed_at,
          TO_HEX(SHA256(TO_JSON_STRING(response))) AS answer,
          JSON_QUERY(response, '$.candidates') AS candidates
        FROM responses
        WHERE
          row_status = ''
          AND STRPOS(TO_JSON_STRING(response), '"webSearchQueries"') > 0
          AND response_id NOT IN (SELECT response_id FROM matches WHERE request_id IS NULL)
      )
      CROSS JOIN UNNEST(JSON_QUERY_ARRAY(as_array(candidates))) AS candidate
      GROUP BY response_id
    ) AS found
    JOIN UNNEST(@jobs) AS jobs ON jobs.number = found.job
    WHERE found.queries > 0
  ),
  found AS (
    SELECT
      responses.job,
      responses.response_id,
      matches.request_id,
      matches.joined_by,
      responses.status,
      -- Output in BigQuery has no processed_time: the end of the job takes its place.
      IFNULL(responses.processed_at, IF(responses.raw_line IS NULL, jobs.ended_at, NULL)) AS processed_at,
      IF(matches.joined_by = 'count' AND responses.status != 'malformed', NULL, requests.fingerprint)
        AS fingerprint,
      requests.labeled_fingerprint,
      IFNULL(requests.source_uri, jobs.input_uri) AS source_uri,
      COALESCE(
        IF(matches.joined_by = 'count' AND responses.status != 'malformed', NULL, requests.name),
        responses.name,
        responses.digest
      ) AS key,
      requests.name IS NULL AND responses.name IS NULL AS is_keyless
    FROM responses
    JOIN UNNEST(@jobs) AS jobs ON jobs.number = responses.job
    LEFT JOIN matches ON matches.response_id = responses.response_id
    LEFT JOIN (SELECT request_id, name, fingerprint, labeled_fingerprint, source_uri FROM requests) AS requests
      ON requests.request_id = matches.request_id
    WHERE matches.response_id IS NULL OR matches.request_id IS NOT NULL
    UNION ALL
    SELECT
      requests.job,
      CAST(NULL AS STRING),
      requests.request_id,
      CAST(NULL AS STRING),
      'missing',
      CAST(NULL AS TIMESTAMP),
      requests.fingerprint,
      requests.labeled_fingerprint,
      IFNULL(requests.source_uri, jobs.input_uri),
      IFNULL(requests.name, requests.digest),
      requests.name IS NULL
    FROM requests
    JOIN UNNEST(@jobs) AS jobs ON jobs.number = requests.job
    WHERE requests.request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
{% if landing.unknown %}
    UNION ALL
    -- The input is unknown, but the job says how many rows it had. Each has a row, also without its key.
    SELECT
      job,
      CAST(NULL AS STRING),
      CAST(NULL AS STRING),
      CAST(NULL AS STRING),
      'missing',
      CAST(NULL AS TIMESTAMP),
      CAST(NULL AS STRING),
      CAST(NULL AS STRING),
      CAST(NULL AS STRING),
      CAST(NULL AS STRING),
      TRUE
    FROM (
      SELECT jobs.number AS job, IFNULL(ANY_VALUE(jobs.asked_rows), 0) - COUNT(requests.request_id) AS lacking
      FROM UNNEST(@jobs) AS jobs
      LEFT JOIN requests ON requests.job = jobs.number
      WHERE jobs.number IN ({{ landing.unknown | join(", ") }})
      GROUP BY jobs.number
    )
    CROSS JOIN UNNEST(GENERATE_ARRAY(1, lacking)) AS number
{% endif %}
  ),
  used AS (
    SELECT
      found.*,
{% if landing.merges %}
      -- Rows without a key are never duplicates of each other.
      found.key IS NULL
      OR ROW_NUMBER() OVER (
        PARTITION BY found.key
        ORDER BY found.status = 'succeeded' DESC, found.processed_at DESC, found.response_id
      ) = 1 AS is_written,
{% else %}
      TRUE AS is_written,
{% endif %}
{% for _, _, column in media_columns %}
      IFNULL(media.{{ column }}, 0) AS {{ column }},
{% endfor %}
      responses.row_status,
      responses.prompt_tokens,
      IFNULL(responses.cached_tokens, 0) AS cached,
      IFNULL(responses.output_tokens, 0) + IFNULL(responses.thought_tokens, 0) AS output,
      IF(responses.raw_line IS NULL AND found.response_id IS NOT NULL, IFNULL(searches.queries, 0), NULL)
        AS search_queries,
      IFNULL(searches.charged, 0) AS charged_queries,
{% for price in price_names %}
      IF(
        IFNULL(responses.prompt_tokens, 0) > @long_prompt_tokens, jobs.long_{{ price }}, jobs.{{ price }}
      ) AS {{ price }},
{% endfor %}
      jobs.price_search
    FROM found
    JOIN UNNEST(@jobs) AS jobs ON jobs.number = found.job
    LEFT JOIN responses ON responses.response_id = found.response_id
    LEFT JOIN media_tokens AS media ON media.response_id = found.response_id
    LEFT JOIN searches ON searches.response_id = found.response_id
  )
SELECT
  job,
  response_id,
  request_id,
  joined_by,
  status,
  processed_at,
  fingerprint,
  labeled_fingerprint,
  source_uri,
  key,
  is_keyless,
  is_written,
  search_queries,
{% for _, _, column in media_columns %}
  {{ column }},
{% endfor %}
  -- In millionths of a dollar, so that every step but the last is exact. NULL if prices or tokens are unknown.
  -- Of the prompt, tokens that were not cached have their own price. The pages of documents are images. Failed
  -- rows are not charged.
  CASE
    WHEN search_queries IS NULL THEN NULL
    WHEN row_status != '' THEN IF(price_input IS NULL, NULL, CAST(0 AS NUMERIC))
    ELSE CAST(
      (
        (
          prompt_tokens - cached
{% for modality in ("audio", "image", "document", "video") %}
          - (prompt_{{ modality }}_tokens - cached_{{ modality }}_tokens)
{% endfor %}
        ) * price_input
        + (cached - cached_audio_tokens) * price_cached
        + (prompt_audio_tokens - cached_audio_tokens) * price_audio
        + cached_audio_tokens * price_cached_audio
        + (prompt_image_tokens - cached_image_tokens) * price_image
        + (prompt_document_tokens - cached_document_tokens) * price_image
        + (prompt_video_tokens - cached_video_tokens) * price_video
        + (output - output_image_tokens) * price_output
        + output_image_tokens * price_image_output
        + charged_queries * price_search * 1000
      ) / 1e12
      AS NUMERIC
    )
  END AS cost_usd
FROM used;
