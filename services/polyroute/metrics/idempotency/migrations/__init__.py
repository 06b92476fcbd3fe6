"""Migrations of idempotency keys."""
