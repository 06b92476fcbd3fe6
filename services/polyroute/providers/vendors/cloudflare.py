"""Cloudflare Workers AI. https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/."""

from typing import Final

from polyroute.providers.bills import STOPS
from polyroute.providers.spoken import CHAT, EMBEDDINGS, RESPONSES
from polyroute.providers.vendor import Setting, Vendor

VENDOR: Final = Vendor(
    name="cloudflare",
    base_url="https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1",
    settings={"account": Setting(env=("CLOUDFLARE_ACCOUNT_ID",))},
    key_env=("CLOUDFLARE_API_TOKEN",),
    discover=False,  # the same token manages everything else there
    speaks=(CHAT, RESPONSES, EMBEDDINGS),
    recorded=frozenset({"openai.chat"}),
    price_book="cloudflare",
    bills=STOPS,
)
