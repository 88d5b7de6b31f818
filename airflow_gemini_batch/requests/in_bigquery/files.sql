-- The requests by the file that they go to: the export of a file reads its partition and no other.
CREATE OR REPLACE TABLE {{files.quoted}}
PARTITION BY RANGE_BUCKET(file, GENERATE_ARRAY(0, {{partitions * width}}, {{width}}))
OPTIONS ({{mark.options}}, expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
SELECT MOD(ABS(MOD(FARM_FINGERPRINT(key), {{shards}})), {{shards}}) AS file, key, request
FROM {{requests.quoted}}
