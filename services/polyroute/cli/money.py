"""Money as people write and read it: exact, to the nano-dollar, never by way of a float."""

import re
from typing import Final

from polyroute.mesh.roles import ConfigError

NANO: Final = 1_000_000_000
MOST: Final = (1 << 63) - 1  # what the contract's numbers hold
_AMOUNT: Final = re.compile(r"(-?)\s*\$?\s*(\d{1,12})(?:\.(\d{1,9}))?\s*(usd)?", re.IGNORECASE | re.ASCII)


def nanos(text: str, option: str) -> int:
    """Nano-USD of an amount such as `5USD`, `0.000123456 USD`, `$2.50` or `-1`.

    Raises:
        ConfigError: It is none, or finer than a nano-dollar; the error names the option.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{option}: {text!r} is not an amount such as 5USD or 0.000123456 USD")
    sign, whole, fraction, _ = found.groups()
    amount = int(whole) * NANO + int((fraction or "").ljust(9, "0"))
    if amount > MOST:
        raise ConfigError(f"{option}: {text!r} is more than can be written down")
    return -amount if sign else amount


def usd(amount: int) -> str:
    """An amount in nano-USD, exact: at least two digits behind the point, at most nine."""
    whole, fraction = divmod(abs(amount), NANO)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{digits} USD"
