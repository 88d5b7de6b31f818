-- Rows that differ in any column have, in all likelihood, another sum; the order of rows does not matter.
SELECT COUNT(*) AS all_rows, CAST(SUM(CAST(FARM_FINGERPRINT(TO_JSON_STRING(t)) AS NUMERIC)) AS STRING) AS checksum
FROM `{{ table }}` AS t
