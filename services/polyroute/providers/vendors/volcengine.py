"""Volcengine Ark (Doubao, Seed, Seedream). https://www.volcengine.com/docs/82379/1298454.

The upstream id of a model is its own, or that of an inference endpoint (`ep-...`).
"""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import CHAT, EMBEDDINGS, INLINE_IMAGES, RESPONSES
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="volcengine",
    base_url="https://ark.cn-beijing.volces.com/api/v3",
    regions={
        "cn-beijing": "https://ark.cn-beijing.volces.com/api/v3",
        "ap-southeast-1": "https://ark.ap-southeast.bytepluses.com/api/v3",  # https://docs.byteplus.com/en/docs/ModelArk
    },
    key_env=("ARK_API_KEY",),
    speaks=(CHAT, RESPONSES, EMBEDDINGS, INLINE_IMAGES),
    options={"openai.chat": Options(reasoning_member="reasoning_content")},
    models=(Traits(refused=frozenset({"n", "seed"})),),  # .../docs/82379/1494384 has neither
    # https://www.volcengine.com/docs/82379/1299023
    faults=(
        FaultRule(errors_pb2.FAULT_QUOTA, codes=("accountoverdueerror", "quotaexceeded", "setlimitexceeded")),
        FaultRule(errors_pb2.FAULT_FILTER, r"may contain sensitive information", statuses=(400,)),
        FaultRule(errors_pb2.FAULT_SERVER, codes=("serveroverloaded",), statuses=(429,)),
    ),
    price_book="volcengine",
    price_books={"ap-southeast-1": ""},
)
