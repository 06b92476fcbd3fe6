"""Alibaba Cloud Model Studio (Qwen): compatible mode, and its own formats for what that lacks.

https://www.alibabacloud.com/help/en/model-studio/base-url has the addresses, .../compatibility-of-openai-with-dashscope
the formats. Keys belong to one region.
"""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.openai_chat import Options
from polyroute.providers.bills import GOES_ON
from polyroute.providers.spoken import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Spoken, below
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Vendor

_NATIVE: Final = "/api/v1/services"
_SSE: Final = {"x-dashscope-sse": "enable"}  # .../model-studio/qwen-api-via-dashscope
_SEEING: Final = ("*-vl*", "*vision*", "*omni*", "qvq*", "qwen3.[5-9]*", "qwen[4-9]*", "*audio*")

VENDOR: Final = Vendor(
    name="dashscope",
    base_url="https://dashscope.aliyuncs.com",
    regions={
        "cn-beijing": "https://dashscope.aliyuncs.com",
        "ap-southeast-1": "https://dashscope-intl.aliyuncs.com",
        "us-east-1": "https://dashscope-us.aliyuncs.com",
        "cn-hongkong": "https://cn-hongkong.dashscope.aliyuncs.com",
    },
    tails=("/compatible-mode/v1", "/api/v1", "/apps/anthropic"),
    key_env=("DASHSCOPE_API_KEY",),
    speaks=(
        *below("/compatible-mode/v1", CHAT, RESPONSES),
        MESSAGES.at("/apps/anthropic"),
        Spoken(
            pb.OPERATION_CHAT,
            "dashscope.generation",
            f"{_NATIVE}/aigc/multimodal-generation/generation",
            stream_headers=_SSE,
            models=_SEEING,
        ),
        Spoken(
            pb.OPERATION_CHAT,
            "dashscope.generation",
            f"{_NATIVE}/aigc/text-generation/generation",
            stream_headers=_SSE,
        ),
        EMBEDDINGS.at("/compatible-mode/v1"),
        Spoken(pb.OPERATION_EMBEDDING, "dashscope.embed", f"{_NATIVE}/embeddings/text-embedding/text-embedding"),
        Spoken(pb.OPERATION_RERANK, "dashscope.rerank", f"{_NATIVE}/rerank/text-rerank/text-rerank"),
        # other pictures are made beside this address: the dialect says where
        Spoken(pb.OPERATION_IMAGE, "dashscope.images", f"{_NATIVE}/aigc/text2image/image-synthesis"),
    ),
    options={"openai.chat": Options(reasoning_member="reasoning_content", accepts=frozenset({"top_k"}))},
    models=(Traits(models=_SEEING, options={"dashscope.generation": {"lists": True}}),),
    # https://www.alibabacloud.com/help/en/model-studio/error-code
    faults=(
        FaultRule(errors_pb2.FAULT_MODEL_GONE, r"^model not exist", statuses=(400,)),
        FaultRule(errors_pb2.FAULT_MODEL_GONE, codes=("model.accessdenied", "modelaccessdenied"), statuses=(403,)),
        FaultRule(
            errors_pb2.FAULT_QUOTA,
            codes=(
                "allocationquota.freetieronly",
                "commoditynotpurchased",
                "prepaidbilloverdue",
                "postpaidbilloverdue",
            ),
        ),
    ),
    recorded=frozenset(
        {
            "openai.chat",
            "openai.embeddings",
            "dashscope.generation",
            "dashscope.embed",
            "dashscope.rerank",
            "dashscope.images",
        }
    ),
    price_book="dashscope",
    price_books={"ap-southeast-1": "", "us-east-1": "", "cn-hongkong": ""},
    bills=GOES_ON,
)
