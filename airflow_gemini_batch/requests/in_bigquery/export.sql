-- One job's share of the requests. Which share a row belongs to follows from its key.
EXPORT DATA OPTIONS (uri = '{{uri}}', format = 'JSON', overwrite = TRUE) AS
SELECT key, request
FROM {{destination}}
WHERE MOD(ABS(MOD(FARM_FINGERPRINT(key), {{shards}})), {{shards}}) = {{shard}}
