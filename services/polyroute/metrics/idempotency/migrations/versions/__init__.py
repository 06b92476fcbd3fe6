"""The revisions of their table; `python -m polyroute.mesh.migrations idempotency "what"` writes the next."""
