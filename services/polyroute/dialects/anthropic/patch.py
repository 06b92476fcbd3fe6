"""The pass-through of a request: the client's own bytes, with the model's name and little else changed."""

from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.dialects import jsontools
from polyroute.dialects.anthropic import seals
from polyroute.dialects.anthropic.common import Options
from polyroute.dialects.openai import patch

_MARK: Final = seals.MARK.encode()


def patch_request(body: bytes, facts: RequestFacts, *, model: str, drop: frozenset[str], options: Options) -> bytes:
    """See `dialect.Dialect.patch_request`."""
    if _MARK in body:
        body = without_carried(body)
    if options.body_version:
        version = jsontools.dumps(options.body_version)
        return jsontools.rewrite(body, {"anthropic_version": version}, drop | {"model", "stream"})
    return patch.patch_request(body, facts, model=model, ask_usage=False, drop=drop)


def without_carried(body: bytes) -> bytes:
    """The body without thinking that another vendor did: a vendor that checks its own seals would refuse it all."""
    members = jsontools.members_of(body)
    messages = jsontools.loads(bytes(members.get("messages", b"null")))
    if not isinstance(messages, list):
        return body
    for message in messages:
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            message["content"] = [block for block in message["content"] if not _is_carried(block)]
    kept = [message for message in messages if not isinstance(message, dict) or message.get("content") != []]
    return jsontools.rewrite(body, {"messages": jsontools.dumps(kept)})


def _is_carried(block: Any) -> bool:
    if not isinstance(block, dict) or block.get("type") not in ("thinking", seals.REDACTED):
        return False
    seal = block.get("signature", block.get("data"))
    return isinstance(seal, str) and seal.startswith(seals.MARK)
