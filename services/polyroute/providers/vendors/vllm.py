"""A vLLM server of one's own. https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html."""

from typing import Final

from polyroute.providers.vendor import WITH_COMPLETIONS, Vendor

VENDOR: Final = Vendor(name="vllm", base_url="http://127.0.0.1:8000/v1", dialects=WITH_COMPLETIONS, keyless=True)
