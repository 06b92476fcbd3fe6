"""MiniMax. https://platform.minimax.io/docs/api-reference/text-openai-api."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.providers.bills import GOES_ON
from polyroute.providers.spoken import CHAT, MESSAGES, RESPONSES, below
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="minimax",
    base_url="https://api.minimax.io",
    regions={"international": "https://api.minimax.io", "cn": "https://api.minimaxi.com"},
    tails=("/v1", "/anthropic"),
    key_env=("MINIMAX_API_KEY",),
    # by the first, most models think aloud inside of the text: .../docs/api-reference/text-anthropic-api
    speaks=(MESSAGES.at("/anthropic"), *below("/v1", CHAT, RESPONSES)),
    models=(
        # .../docs/api-reference/text-openai-api: these "will be ignored", `n` but for 1 is refused
        Traits(
            refused=frozenset({"presence_penalty", "frequency_penalty", "logit_bias", "n"}), audio=False, files=False
        ),
        Traits(models=("minimax-m1*", "minimax-m2*"), images="none"),
    ),
    # https://platform.minimax.io/docs/api-reference/errorcode; the code stands at the end of the words
    faults=(
        FaultRule(errors_pb2.FAULT_RATE, r"\((?:1002|1039|1041)\)$"),
        FaultRule(errors_pb2.FAULT_CREDENTIAL, r"\((?:1004|2049)\)$"),
        FaultRule(errors_pb2.FAULT_QUOTA, r"\((?:1008|2056)\)$"),
        FaultRule(errors_pb2.FAULT_FILTER, r"\((?:1026|1027)\)$"),
        FaultRule(errors_pb2.FAULT_SERVER, r"\((?:1000|1001|1024|1033)\)$"),
    ),
    price_book="minimax",
    price_books={"cn": "minimax-cn"},
    bills=GOES_ON,
)
