"""Any server that speaks OpenAI's dialects; its account names the address."""

from typing import Final

from polyroute.providers.spoken import COMPATIBLE, IMAGES, MODERATIONS, RERANK, SPEECH, TRANSCRIPTIONS
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="openai_compatible",
    speaks=(*COMPATIBLE, RERANK, IMAGES, SPEECH, TRANSCRIPTIONS, MODERATIONS),
    keyless=True,
)
