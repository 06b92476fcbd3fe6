"""Alibaba Cloud Model Studio (Qwen), compatible mode.

https://help.aliyun.com/zh/model-studio/compatibility-of-openai-with-dashscope
"""

from typing import Final

from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="dashscope",
    base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
    key_env=("DASHSCOPE_API_KEY",),
)
