"""The parts of which the `openai.*` dialects are made; use `openai_chat`, `openai_completions`, `openai_embeddings`."""
