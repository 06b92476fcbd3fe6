"""The embedded model: a small chat model and an embedding model, served by a supervised child process."""
