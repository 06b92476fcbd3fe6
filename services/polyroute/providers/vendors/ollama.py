"""An Ollama server of one's own. https://docs.ollama.com/openai."""

from typing import Final

from polyroute.providers.vendor import WITH_COMPLETIONS, Vendor

VENDOR: Final = Vendor(name="ollama", base_url="http://127.0.0.1:11434/v1", dialects=WITH_COMPLETIONS, keyless=True)
