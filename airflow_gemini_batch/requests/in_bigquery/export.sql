-- One job's share of the requests as JSONL; a hash of the key assigns each row to a share.
EXPORT DATA OPTIONS (uri = '{{uri}}', format = 'JSON', overwrite = TRUE) AS
SELECT key, request
FROM {{source.quoted}}
{% if is_by_file %}
WHERE file = {{shard}}
{% else %}
WHERE MOD(ABS(MOD(FARM_FINGERPRINT(key), {{shards}})), {{shards}}) = {{shard}}
{% endif %}
