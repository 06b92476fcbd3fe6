"""Where the files, batches and stored answers of each vendor are."""

import pytest

from polyroute.providers.account import Account
from polyroute.providers.registry import all_vendors
from polyroute.providers.relay import placed


@pytest.mark.parametrize(
    ("vendor", "path", "expected"),
    [
        ("openai", "/files/file-1/content", "https://api.openai.com/v1/files/file-1/content"),
        ("mistral", "/batches?page=2", "https://api.mistral.ai/v1/batches?page=2"),
        ("moonshot", "/files", "https://api.moonshot.ai/v1/files"),
        ("zhipu", "/batches", "https://open.bigmodel.cn/api/paas/v4/batches"),
        ("dashscope", "/files", "https://dashscope.aliyuncs.com/compatible-mode/v1/files"),
        ("minimax", "/files", "https://api.minimax.io/v1/files"),
        ("anthropic", "/files", "https://api.anthropic.com/v1/files"),
        ("anthropic", "/messages/batches", "https://api.anthropic.com/v1/messages/batches"),
        ("minimax", "/messages/batches/b-1", "https://api.minimax.io/anthropic/v1/messages/batches/b-1"),
        ("anthropic", "/v1/models", "https://api.anthropic.com/v1/models"),
        ("moonshot", "/filesystem", "https://api.moonshot.ai/filesystem"),
    ],
)
def test_what_vendors_keep(vendor: str, path: str, expected: str) -> None:
    """Beside the conversations of the same API; any other path is below the address as it is."""
    account = Account("a", all_vendors()[vendor], keys=("k",))

    assert expected == account.base_url + placed(account, path)
