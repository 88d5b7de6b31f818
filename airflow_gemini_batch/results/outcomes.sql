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
    IF(matches.joined_by = 'count' AND classified.status != 'malformed', NULL, requests.fingerprint)
      AS fingerprint,
    requests.labeled_fingerprint,
    COALESCE(
      IF(matches.joined_by = 'count' AND classified.status != 'malformed', NULL, requests.name),
      classified.name,
      digests.digest
    ) AS key,
    requests.name IS NULL AND classified.name IS NULL AS is_keyless
  FROM classified
  LEFT JOIN matches ON matches.response_id = classified.response_id
  LEFT JOIN (SELECT request_id, name, fingerprint, labeled_fingerprint FROM requests) AS requests
    ON requests.request_id = matches.request_id
  LEFT JOIN digests ON digests.response_id = classified.response_id
  WHERE matches.response_id IS NULL OR matches.request_id IS NOT NULL
  UNION ALL
  SELECT
    CAST(NULL AS STRING),
    requests.request_id,
    CAST(NULL AS STRING),
    'missing',
    CAST(NULL AS TIMESTAMP),
    requests.fingerprint,
    requests.labeled_fingerprint,
    IFNULL(requests.name, digests.digest),
    requests.name IS NULL
  FROM (SELECT request_id, name, fingerprint, labeled_fingerprint FROM requests) AS requests
  LEFT JOIN digests ON digests.request_id = requests.request_id
  WHERE requests.request_id NOT IN (SELECT request_id FROM matches WHERE request_id IS NOT NULL)
{% if landing.requests is none %}
  UNION ALL
  -- The input is unknown, but the job says how many rows it had. Each has a row, also without its key.
  SELECT
    CAST(NULL AS STRING),
    CAST(NULL AS STRING),
    CAST(NULL AS STRING),
    'missing',
    CAST(NULL AS TIMESTAMP),
    CAST(NULL AS STRING),
    CAST(NULL AS STRING),
    CAST(NULL AS STRING),
    TRUE
  FROM UNNEST(GENERATE_ARRAY(1, IFNULL(@asked_rows, 0) - (SELECT COUNT(*) FROM requests))) AS number
{% endif %}
);

{% include "results/cost.sql" %}

-- Failed rows are not charged.
CREATE TEMP TABLE counts AS
SELECT
  (SELECT COUNT(*) FROM requests) AS input_rows,
  (SELECT COUNT(name) FROM requests) AS named_rows,
  (SELECT COUNT(*) FROM responses) AS output_rows,
  (SELECT COUNT(*) FROM matches WHERE request_id IS NULL) AS duplicates,
{% for status in statuses %}
  COUNTIF(outcomes.status = '{{ status }}') AS {{ status }},
{% endfor %}
{% for way in ways %}
  COUNTIF(outcomes.joined_by = '{{ way }}') AS joined_by_{{ way }},
{% endfor %}
  COUNTIF(outcomes.request_id IS NULL AND outcomes.status != 'missing') AS unmatched,
  IFNULL(SUM(usage.prompt_tokens), 0) AS prompt_tokens,
  IFNULL(SUM(usage.cached_tokens), 0) AS cached_tokens,
  IFNULL(SUM(usage.output_tokens), 0) AS output_tokens,
  IFNULL(SUM(usage.thought_tokens), 0) AS thought_tokens,
  IFNULL(SUM(usage.total_tokens), 0) AS total_tokens,
  IFNULL(SUM(costs.search_queries), 0) AS search_queries,
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
