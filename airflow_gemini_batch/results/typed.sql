-- JSON values of an answer as SQL values. A value of the wrong type is NULL and never fails the statement.

CREATE TEMP FUNCTION as_string(item JSON) RETURNS STRING AS (
  IF(JSON_TYPE(item) = 'string', JSON_VALUE(item, '$'), NULL)
);

CREATE TEMP FUNCTION as_float64(item JSON) RETURNS FLOAT64 AS (
  IF(JSON_TYPE(item) = 'number', SAFE_CAST(JSON_VALUE(item, '$') AS FLOAT64), NULL)
);

-- 3.0 is an integer, as in JSON Schema; 3.5 is not.
CREATE TEMP FUNCTION as_int64(item JSON) RETURNS INT64 AS (
  CASE
    WHEN JSON_TYPE(item) != 'number' THEN NULL
    WHEN REGEXP_CONTAINS(JSON_VALUE(item, '$'), r'^-?[0-9]+$') THEN SAFE_CAST(JSON_VALUE(item, '$') AS INT64)
    WHEN as_float64(item) = ROUND(as_float64(item)) THEN SAFE_CAST(as_float64(item) AS INT64)
  END
);

CREATE TEMP FUNCTION as_bool(item JSON) RETURNS BOOL AS (
  IF(JSON_TYPE(item) = 'boolean', SAFE_CAST(JSON_VALUE(item, '$') AS BOOL), NULL)
);

-- Text that matches a pattern, without the digits beyond microseconds, which BigQuery cannot store.
CREATE TEMP FUNCTION as_clock(item JSON, pattern STRING) RETURNS STRING AS (
  IF(
    REGEXP_CONTAINS(as_string(item), pattern),
    REGEXP_REPLACE(as_string(item), r'(\.[0-9]{6})[0-9]+', r'\1'),
    NULL
  )
);

CREATE TEMP FUNCTION as_date(item JSON) RETURNS DATE AS (
  SAFE_CAST(as_clock(item, r'^[0-9]{4}-[0-9]{2}-[0-9]{2}$') AS DATE)
);

-- Without a time zone it is UTC.
CREATE TEMP FUNCTION as_timestamp(item JSON) RETURNS TIMESTAMP AS (
  SAFE_CAST(
    as_clock(
      item,
      r'^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?$'
    ) AS TIMESTAMP
  )
);

-- TIME has no time zone, so any zone other than UTC does not match.
CREATE TEMP FUNCTION as_time(item JSON) RETURNS TIME AS (
  SAFE_CAST(
    REGEXP_REPLACE(
      as_clock(item, r'^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-]00:00)?$'),
      r'([Zz]|[+-]00:00)$',
      ''
    ) AS TIME
  )
);

CREATE TEMP FUNCTION as_json(item JSON) RETURNS JSON AS (IF(JSON_TYPE(item) = 'null', NULL, item));

CREATE TEMP FUNCTION as_object(item JSON) RETURNS JSON AS (IF(JSON_TYPE(item) = 'object', item, NULL));

CREATE TEMP FUNCTION as_array(item JSON) RETURNS JSON AS (IF(JSON_TYPE(item) = 'array', item, NULL));
