-- Extends a round's claim, and counts what it holds: nothing, if another task run has taken it over.
UPDATE {{claims.quoted}} SET claimed_at = CURRENT_TIMESTAMP() WHERE round = @round;

SELECT COUNT(*) AS requests FROM {{claims.quoted}} WHERE round = @round;
