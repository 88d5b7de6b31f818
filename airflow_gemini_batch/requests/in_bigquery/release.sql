-- Ends the claims of a round that has no batch job.
DELETE FROM {{claims.quoted}} WHERE round = @round
