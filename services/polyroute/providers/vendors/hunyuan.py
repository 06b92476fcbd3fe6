"""Tencent Hunyuan by its compatible API. https://cloud.tencent.com/document/product/1729/111007."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import CHAT, EMBEDDINGS
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="hunyuan",
    base_url="https://api.hunyuan.cloud.tencent.com/v1",
    key_env=("HUNYUAN_API_KEY",),
    speaks=(CHAT, EMBEDDINGS),
    options={"openai.chat": Options(reasoning_member="reasoning_content")},
    models=(Traits(refused=frozenset({"n", "logit_bias", "logprobs", "top_logprobs"}), audio=False),),
    price_book="hunyuan",
)
