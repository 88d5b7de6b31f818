-- The claim on each failure, if there is one.
LEFT JOIN {{claims.quoted}} AS claims
  ON claims.failed_job = failures.job_name
  AND claims.key = failures.key
  AND claims.request_digest = TO_HEX(SHA256(TO_JSON_STRING(failures.request)))
