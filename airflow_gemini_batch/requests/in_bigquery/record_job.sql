-- Notes the batch job of a round on its claim.
UPDATE {{claims.quoted}} SET job_name = @job_name WHERE round = @round
