"""One vendor call and one charge per `Idempotency-Key`, however often a request is sent."""
