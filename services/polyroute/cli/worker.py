"""One process of `polyroute up --workers N`, as the supervisor starts it; not for people."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from polyroute.cli.config import load
from polyroute.cli.roles import Process, chosen
from polyroute.cli.serve import serve
from polyroute.cli.supervisor import OVERRIDES
from polyroute.cli.welcome import Welcome
from polyroute.mesh.roles import ROLES


def main(arguments: list[str]) -> None:
    """Runs `INSTANCE ROLES [FILE]`."""
    instance, roles, *file = arguments
    _leave_with(os.getppid())
    said = json.loads(os.environ.pop(OVERRIDES))
    path = Path(file[0]) if file else None
    config = load(path, said)
    welcome = Welcome(config)
    names = chosen(roles.split(","), ROLES)
    serve(Process(config, path, said, names, instance=instance, announce=welcome.key, progress=welcome.progress))


def _leave_with(parent: int) -> None:
    """Stops this process in order when its supervisor is gone, however that died."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
