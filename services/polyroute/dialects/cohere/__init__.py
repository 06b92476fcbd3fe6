"""The parts of which the dialect `cohere.chat` is made; use `cohere_chat`."""
