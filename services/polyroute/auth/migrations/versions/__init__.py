"""The revisions of auth's tables; `python -m polyroute.mesh.migrations auth "what"` writes the next."""
