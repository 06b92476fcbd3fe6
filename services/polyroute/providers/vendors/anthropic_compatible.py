"""Any server that speaks Anthropic's dialect; its account names the address, without the version."""

from typing import Final

from polyroute.providers.credentials import HeaderKey
from polyroute.providers.spoken import COUNT_MESSAGES, MESSAGES, VERSION
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="anthropic_compatible",
    tails=("/v1",),
    credential=HeaderKey("x-api-key", ""),
    headers=VERSION,
    speaks=(MESSAGES, COUNT_MESSAGES),
    keyless=True,
)
