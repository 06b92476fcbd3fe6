"""Amazon Bedrock by InvokeModel, which passes a model its maker's own format: for what the Converse API does not have.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html. Clients of Anthropic's format
reach Claude without translation; vectors are had in no other way. Keys are those of `bedrock`.
"""

from dataclasses import replace
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects.anthropic.common import Options
from polyroute.providers.families import CLAUDE, CLAUDE_FAULTS
from polyroute.providers.spoken import Spoken, Told
from polyroute.providers.traits import Edit
from polyroute.providers.vendors.bedrock import BETAS, CLAUDE_IDS
from polyroute.providers.vendors.bedrock import VENDOR as CONVERSE

_INVOKE: Final = "/model/{model}/invoke"
_STREAM: Final = "/model/{model}/invoke-with-response-stream"
# https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-request-response.html
_VERSION: Final = "bedrock-2023-05-31"
# .../APIReference/API_runtime_InvokeModel.html does not name it; its answers carry it, and some say nothing else of use
_COUNTED: Final = "x-amzn-bedrock-input-token-count"

VENDOR: Final = replace(
    CONVERSE,
    name="bedrock_invoke",
    key_env=(),  # a key in the environment makes an account of the other
    discover=False,
    speaks=(
        Spoken(
            pb.OPERATION_CHAT,
            "anthropic.messages",
            _INVOKE,
            _STREAM,
            models=CLAUDE_IDS,
            edit=Edit(drop=frozenset({"model", "stream"}), put={"anthropic_version": f'"{_VERSION}"'.encode()}),
            told=Told("anthropic-beta", "anthropic_beta", BETAS),
        ),
        # https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html
        Spoken(
            pb.OPERATION_EMBEDDING,
            "cohere.embed",
            _INVOKE,
            models=("*cohere.embed-*",),
            edit=Edit(drop=frozenset({"model"})),
            counted=_COUNTED,
        ),
        Spoken(pb.OPERATION_EMBEDDING, "bedrock.embed", _INVOKE, models=("*titan-embed-text-*",), texts=1),
    ),
    models=CLAUDE,
    options={"anthropic.messages": Options(body_version=_VERSION)},
    faults=(*CONVERSE.faults, *CLAUDE_FAULTS),
    recorded=frozenset(),
)
