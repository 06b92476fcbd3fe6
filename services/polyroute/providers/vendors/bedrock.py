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
from polyroute.providers.spoken import Spoken
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule, Setting, Vendor

VENDOR: Final = Vendor(
    name="bedrock",
    base_url="https://bedrock-runtime.{region}.amazonaws.com",
    settings={"region": Setting(env=("AWS_REGION", "AWS_DEFAULT_REGION"), default="us-east-1")},
    # other credentials in the environment are often there for other work; an account in the file uses them
    key_env=("AWS_BEARER_TOKEN_BEDROCK",),
    credential=AwsKey("bedrock"),
    speaks=(
        Spoken(pb.OPERATION_CHAT, "bedrock.converse", "/model/{model}/converse", "/model/{model}/converse-stream"),
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
