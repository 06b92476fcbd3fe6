"""What calls with an `Idempotency-Key` answered, for all edges of the installation."""
