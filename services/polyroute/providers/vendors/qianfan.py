"""Baidu AI Cloud Qianfan (ERNIE), inference API version 2. https://cloud.baidu.com/doc/qianfan/s/rmh4stn9m."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import CHAT, EMBEDDINGS, IMAGES, RERANK
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="qianfan",
    base_url="https://qianfan.baidubce.com/v2",
    key_env=("QIANFAN_API_KEY",),
    speaks=(CHAT, EMBEDDINGS, IMAGES, RERANK),
    options={"openai.chat": Options(reasoning_member="reasoning_content")},
    price_book="qianfan",
)
