"""One file a vendor; each has a `VENDOR`."""
