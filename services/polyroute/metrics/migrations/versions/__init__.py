"""The revisions of metrics's tables; `python -m polyroute.mesh.migrations metrics "what"` writes the next."""
