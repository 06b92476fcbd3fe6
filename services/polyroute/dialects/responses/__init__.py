"""The parts of the dialect `openai.responses`."""
