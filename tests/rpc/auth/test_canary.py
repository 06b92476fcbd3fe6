"""A secret is shown once and is nowhere afterwards."""

import logging
from pathlib import Path

import grpc
import pytest

from polyroute.api.auth.v1 import auth_pb2 as pb
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from tests.rpc.conftest import KINDS


@pytest.mark.parametrize("kind", KINDS, indirect=True)  # all of whose files can be read
async def test_secrets_are_in_no_file_log_or_answer(
    auth_stub: AuthServiceStub,
    secret: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not the first key's, a created one's, a revoked one's or a wrong one's; not with every log turned up."""
    caplog.set_level(logging.DEBUG)
    created = await auth_stub.CreateKey(pb.CreateKeyRequest(name="ci"), timeout=5)
    wrong = "pr-" + "canary-" * 7
    answers: list[object] = []
    for credential in (secret, created.secret):
        answers.append(await auth_stub.Authorize(pb.AuthorizeRequest(credential=credential), timeout=5))
    for call in (
        auth_stub.Authorize(pb.AuthorizeRequest(credential=wrong), timeout=5),
        auth_stub.RevokeKey(pb.RevokeKeyRequest(key=wrong), timeout=5),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        answers.append((refused.value.details(), refused.value.trailing_metadata()))
    answers.append(await auth_stub.RevokeKey(pb.RevokeKeyRequest(key=created.key.prefix), timeout=5))
    answers.append(await auth_stub.ListKeys(pb.ListKeysRequest(show_ended=True), timeout=5))

    printed = capsys.readouterr()
    files = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    seen = "\n".join([*map(str, answers), printed.out, printed.err, caplog.text]).encode() + files
    assert created.key.id.encode() in files
    for canary in (secret, created.secret, wrong):
        assert canary[9:].encode() not in seen
