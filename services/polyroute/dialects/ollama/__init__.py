"""The parts of which the dialect `ollama.chat` is made; use `ollama_chat`."""
