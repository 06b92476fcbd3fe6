"""The parts of which the dialects `dashscope.*` for conversation are made; use `dashscope_generation`."""
