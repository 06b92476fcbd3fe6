"""Zhipu AI (GLM). https://docs.bigmodel.cn/api-reference/."""

from typing import Final

from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="zhipu",
    base_url="https://open.bigmodel.cn/api/paas/v4",
    key_env=("ZHIPU_API_KEY", "ZHIPUAI_API_KEY"),
    price_book="zhipuai",
)
