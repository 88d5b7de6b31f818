-- The answers, with references in the place of the media that the worker has stored.
SELECT * REPLACE (response_with_references(response, @media_uri_prefix) AS response)
FROM ({{answers_source}})
