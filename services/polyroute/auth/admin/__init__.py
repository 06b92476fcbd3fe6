"""What administrators do, and the log of it."""
