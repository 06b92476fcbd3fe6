"""`python -m polyroute.mesh.migrations SERVICE "what"`: writes the next revision of a service's tables."""

import argparse

from polyroute.mesh.migrations.history import SERVICES, history_of
from polyroute.mesh.migrations.revising import write


def main() -> None:
    """Writes a revision, and says where."""
    parser = argparse.ArgumentParser(prog="polyroute.mesh.migrations", description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("what", help="what the revision does, as a sentence without a period")
    given = parser.parse_args()
    written = write(history_of(given.service), given.what)
    print(written or "the tables are as the migrations make them")  # noqa: T201 - a command prints


if __name__ == "__main__":
    main()
