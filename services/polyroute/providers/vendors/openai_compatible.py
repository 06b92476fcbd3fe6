"""Any server that speaks OpenAI's dialects; its account names the address."""

from typing import Final

from polyroute.providers.vendor import WITH_COMPLETIONS, Vendor

VENDOR: Final = Vendor(name="openai_compatible", dialects=WITH_COMPLETIONS, keyless=True)
