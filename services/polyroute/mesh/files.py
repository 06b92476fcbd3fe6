"""Files that appear whole or not at all, for their owner's eyes."""

import os
import secrets
from pathlib import Path


def write_private(path: Path, content: bytes, *, once: bool = False) -> None:
    """Writes a file of which nobody ever sees a half, readable by its owner only.

    Args:
        path: Where; its folder is made when it is missing.
        content: What.
        once: A file that is there already stays: the first of two processes that start at the same moment wins.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if once:
            path.hardlink_to(draft)  # unlike a rename, a link never replaces a file
        else:
            draft.replace(path)
    except FileExistsError:
        pass  # the other process's file is as good as ours
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the name is as durable as the content
    finally:
        os.close(folder)
