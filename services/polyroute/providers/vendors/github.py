"""GitHub Models. https://docs.github.com/en/rest/models/inference."""

from typing import Final

from polyroute.providers.spoken import CHAT, EMBEDDINGS
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="github",
    base_url="https://models.github.ai/inference",
    key_env=("GITHUB_TOKEN",),
    discover=False,  # the same token is in every build
    headers={"x-github-api-version": "2022-11-28"},
    speaks=(CHAT, EMBEDDINGS),
)
