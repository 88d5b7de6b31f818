-- In place of lines that BigQuery has not loaded.
INSERT INTO {{ table.quoted }} (line)
SELECT note FROM UNNEST(@notes) AS note
