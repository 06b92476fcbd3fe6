"""NVIDIA NIM, hosted or one's own. https://docs.api.nvidia.com/nim/reference/llm-apis."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import COMPATIBLE
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="nvidia",
    base_url="https://integrate.api.nvidia.com/v1",
    key_env=("NVIDIA_API_KEY",),
    speaks=COMPATIBLE,
    options={"openai.chat": Options(reasoning_member="reasoning_content")},
)
