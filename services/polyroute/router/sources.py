"""What an operator wrote, as a digest: the same content has the same one, however it is laid out."""

import hashlib
import json
from typing import Any, Final

from polyroute.router.config import CatalogConfig
from polyroute.router.fields import as_written

_BYTES: Final = 8


def source_of(config: CatalogConfig) -> str:
    """The digest of a catalog as it was written."""
    return digest_of(as_written(config))


def digest_of(content: Any) -> str:
    """The digest of plain values; the order of keys counts, for the order of models does."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=_BYTES).hexdigest()
