"""The program's first step: what must be set before gRPC is loaded."""

import os


def main() -> None:
    """Runs the command line."""
    # child processes are started by exec and never use this process's gRPC; its fork handlers only complain about them
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    from polyroute.cli import main as commands

    commands.main()
