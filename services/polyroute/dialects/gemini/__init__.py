"""What the `gemini.*` dialects are made of."""
