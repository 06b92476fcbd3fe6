"""How many examples a property is tried on: few in each run of the suite, many where somebody asks for it."""

import os


def examples(quick: int, thorough: int) -> int:
    """The first number; the second one with POLYROUTE_THOROUGH=1 in the environment."""
    return thorough if os.environ.get("POLYROUTE_THOROUGH") == "1" else quick
