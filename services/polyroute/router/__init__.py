"""Which deployment serves a call, and why: catalog, decisions and their records."""
