-- The row that landings change in turn. One statement makes the table and the row, so that none is without it.
CREATE TABLE IF NOT EXISTS {{ lock.quoted }}
OPTIONS (description = 'Landings that merge or truncate change this row in turn; see docs/results.md')
AS
SELECT CAST(NULL AS STRING) AS job_name, CURRENT_TIMESTAMP() AS locked_at
