"""Amazon Bedrock by its Converse API. https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.

A key is a Bedrock API key, or a pair `ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]` with which requests are signed;
without one the machine's own credentials sign.
"""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.providers.bills import GOES_ON
from polyroute.providers.credentials import AwsKey
from polyroute.providers.families import CLAUDE
from polyroute.providers.spoken import Spoken, Told
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Setting, Vendor

CLAUDE_IDS: Final = ("*anthropic.claude-*",)
# The features in trial that its Claude takes; a word that it does not know fails the whole request.
# https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-request-response.html
BETAS: Final = (
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "effort-2025-11-24",
    "interleaved-thinking-2025-05-14",
    "output-128k-2025-02-19",
    "token-efficient-tools-2025-02-19",
    "tool-examples-2025-10-29",
    "tool-search-tool-2025-10-19",
)
_TOLD: Final = Told("anthropic-beta", "additionalModelRequestFields.anthropic_beta", BETAS, CLAUDE_IDS)

VENDOR: Final = Vendor(
    name="bedrock",
    base_url="https://bedrock-runtime.{region}.amazonaws.com",
    settings={"region": Setting(env=("AWS_REGION", "AWS_DEFAULT_REGION"), default="us-east-1")},
    # other credentials in the environment are often there for other work; an account in the file uses them
    key_env=("AWS_BEARER_TOKEN_BEDROCK",),
    credential=AwsKey("bedrock"),
    speaks=(
        Spoken(
            pb.OPERATION_CHAT,
            "bedrock.converse",
            "/model/{model}/converse",
            "/model/{model}/converse-stream",
            told=_TOLD,
        ),
        Spoken(pb.OPERATION_COUNT_TOKENS, "bedrock.count_tokens", "/model/{model}/count-tokens"),
        Spoken(
            pb.OPERATION_RERANK,
            "bedrock.rerank",
            "/rerank",
            base_url="https://bedrock-agent-runtime.{region}.amazonaws.com",
        ),
    ),
    models=(
        # Converse takes pictures as bytes or from S3: .../APIReference/API_runtime_ImageSource.html
        Traits(images="data", audio=False),
        *CLAUDE,
    ),
    # .../APIReference/CommonErrors.html; its errors name their kind in a header, and in the body their words only
    faults=(
        FaultRule(errors_pb2.FAULT_MODEL_GONE, r"model identifier is invalid", statuses=(400,)),
        FaultRule(errors_pb2.FAULT_MODEL_GONE, r"access to the model with the specified", statuses=(403,)),
        FaultRule(errors_pb2.FAULT_CONTEXT, r"input is too long", statuses=(400,)),
        FaultRule(errors_pb2.FAULT_UNSUPPORTED, r"^this model doesn't support", statuses=(400,)),
        FaultRule(errors_pb2.FAULT_QUOTA, r"too many tokens per day", statuses=(429,)),
        FaultRule(errors_pb2.FAULT_SERVER, r"model is not ready", statuses=(429,)),
        FaultRule(errors_pb2.FAULT_RATE, r"getting throttled", statuses=(503,)),
    ),
    recorded=frozenset({"bedrock.converse", "bedrock.count_tokens", "bedrock.rerank"}),
    price_book="aws",
    bills=GOES_ON,
)
