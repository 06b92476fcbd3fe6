"""Public wire formats of language models: pure functions between bytes and contract messages."""
