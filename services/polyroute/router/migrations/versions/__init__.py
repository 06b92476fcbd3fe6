"""The revisions of the router's tables; `python -m polyroute.mesh.migrations router "what"` writes the next."""
