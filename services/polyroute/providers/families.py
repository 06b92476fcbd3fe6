"""Families of models that several vendors serve: what they refuse, and what their errors mean, wherever they run."""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import FaultRule

_SAMPLING: Final = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"}
)
_BOUND: Final = {"max_tokens": "max_completion_tokens"}

# https://platform.openai.com/docs/guides/reasoning and .../guides/latest-model ("parameter compatibility");
# of `stop`, gpt-5-mini says that it "is not supported with this model"
GPT: Final = (
    Traits(
        models=(
            "o[134]*",
            "codex-*",
            "computer-use-*",
            "gpt-5",
            "gpt-5-20*",
            "gpt-5-[mn]*",
            "gpt-5-pro*",
            "gpt-5-codex*",
        ),
        refused=_SAMPLING | {"stop"},
        renamed=_BOUND,
    ),
    Traits(models=("o1*", "o3*", "o4*", "codex-*"), refused=frozenset({"parallel_tool_calls"})),
    # the first without instructions: "does not support 'system' with this model"
    Traits(models=("o1-mini*", "o1-preview*"), system=False, tools=False, images="none"),
    # these do not think unless they are asked to, and take everything then
    Traits(models=("gpt-5.[1-5]*",), refused_thinking=_SAMPLING | {"stop"}, renamed=_BOUND),
    # "does not support 0.7 with this model. Only the default (1) value is supported"; "Function tools with
    # reasoning_effort are not supported [...] in /v1/chat/completions. To use function tools, use /v1/responses"
    Traits(
        models=("gpt-5.[6-9]*", "gpt-[6-9]*"),
        refused_thinking=_SAMPLING | {"stop"},
        thinks_unasked=True,
        renamed=_BOUND,
        tools_in="openai.responses",
    ),
)
GPT_FAULTS: Final = (
    # a key may be allowed some models and not others
    FaultRule(pb.FAULT_MODEL_GONE, r"not allowed to sample from this model", statuses=(403,)),
    FaultRule(pb.FAULT_CLIENT, r"not (?:a chat model|supported in the v1/)", statuses=(404,)),
    FaultRule(pb.FAULT_CLIENT, r"^(?:response|previous response|conversation|item) with id", statuses=(404,)),
)

_OLDER_CLAUDE: Final = (
    "*claude-[123]*",
    "*claude-opus-4-[0125]*",
    "*claude-opus-4@*",
    "*claude-sonnet-4-[0125]*",
    "*claude-sonnet-4@*",
    "*claude-haiku-4*",
)
_NEWER_CLAUDE: Final = ("*claude-opus-4-[789]*", "*claude-[a-z]*[a-z]-[5-9]*")
_PAIRED_CLAUDE: Final = (
    "*claude-opus-4-[1-6]",
    "*claude-opus-4-[1-6][-@]*",
    "*claude-sonnet-4-[5-9]*",
    "*claude-haiku-4-[5-9]*",
)
CLAUDE: Final = (
    # https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-7#sampling-parameters-removed
    Traits(
        models=_NEWER_CLAUDE,
        refused=frozenset({"temperature", "top_p", "top_k"}),
        options={"anthropic.messages": {"sampling": False}},
    ),
    # those that are told how many tokens to think: .../build-with-claude/adaptive-thinking
    Traits(models=_OLDER_CLAUDE, options={"anthropic.messages": {"thinking": "budget"}}),
    # "`temperature` and `top_p` cannot both be specified for this model": Opus 4.1 and whatever came after it
    Traits(
        models=("*claude-opus-4-[1-6]*", "*claude-sonnet-4-[5-9]*", "*claude-haiku-4-[5-9]*"),
        not_with={"top_p": "temperature"},
    ),
    Traits(models=("*claude-*",), audio=False),
)
CLAUDE_FAULTS: Final = (
    # a limit that the customer set: https://platform.claude.com/docs/en/api/rate-limits
    FaultRule(pb.FAULT_QUOTA, r"reached your specified api usage limits"),
)

# https://ai.google.dev/gemini-api/docs/troubleshooting
GOOGLE_FAULTS: Final = (
    FaultRule(pb.FAULT_CREDENTIAL, r"api key (?:not valid|not found|expired)", statuses=(400,)),
    FaultRule(pb.FAULT_CONTEXT, r"input token count .{0,40}exceeds", statuses=(400,)),
    FaultRule(pb.FAULT_FILTER, r"responsible ai practices", statuses=(400,)),
    FaultRule(pb.FAULT_UNSUPPORTED, r"user location is not supported", statuses=(400,)),
    # limits by the minute and by the day have the same status and code: the metric says which
    FaultRule(pb.FAULT_QUOTA, r"quota.{0,400}per[ _]?day", statuses=(429,)),
)

# https://ai.google.dev/gemini-api/docs/thinking: budgets before the third generation, levels from there on, of which
# its first models know no `minimal`; https://ai.google.dev/gemini-api/docs/thought-signatures
_BUDGETS: Final = {"thinking": "budget", "unsigned_calls": ""}
GEMINI: Final = (
    Traits(models=("gemini-1*", "gemini-2*"), options={"gemini.generate": _BUDGETS}),
    Traits(models=("gemini-3-pro*", "gemini-3.1-pro*"), options={"gemini.generate": {"least_level": "LOW"}}),
)
