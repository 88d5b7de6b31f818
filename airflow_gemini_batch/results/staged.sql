-- A staging table. It expires, in case a killed worker has not dropped it.
CREATE TABLE IF NOT EXISTS {{ table.quoted }} ({{ "job INT64, object STRING, " if names_objects }}line STRING)
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {{ hours }} HOUR))
