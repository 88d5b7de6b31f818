{% from "results/job_table.sql" import json %}
-- The different response schemas that the requests of a job contain; NULL for requests without one.
SELECT schema
FROM (
  SELECT
    COALESCE(
      NULLIF(JSON_QUERY(config, '$.responseSchema'), 'null'),
      NULLIF(JSON_QUERY(config, '$.responseJsonSchema'), 'null'),
      NULLIF(JSON_QUERY(config, '$.response_schema'), 'null'),
      NULLIF(JSON_QUERY(config, '$.response_json_schema'), 'null')
    ) AS schema
  FROM (
    SELECT
      COALESCE(
        NULLIF(JSON_QUERY(request, '$.generationConfig'), 'null'),
        NULLIF(JSON_QUERY(request, '$.generation_config'), 'null')
      ) AS config
    FROM (
{% for part in parts %}
      SELECT
        CAST(
{% if not part.is_lines %}
          TO_JSON_STRING({{ json(part.source, "request") }})
{% elif is_output %}
          TO_JSON_STRING(JSON_QUERY(SAFE.PARSE_JSON(line, wide_number_mode => 'round'), '$.request'))
{% else %}
          JSON_QUERY(line, '$.request')
{% endif %}
          AS STRING
        ) AS request
      FROM {{ part.source.quoted }}
      {{ "UNION ALL" if not loop.last }}
{% endfor %}
    )
    WHERE request != 'null'
  )
)
GROUP BY schema
ORDER BY schema
LIMIT {{ limit }}
