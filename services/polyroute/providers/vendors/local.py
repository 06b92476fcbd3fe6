"""The embedded model: two models of this machine, without an account. See `polyroute.providers.local`."""

from typing import Final

from polyroute.providers.spoken import COMPATIBLE
from polyroute.providers.vendor import Quirks, Vendor

VENDOR: Final = Vendor(
    name="local",
    speaks=COMPATIBLE,
    keyless=True,
    # the embedded server closes a kept connection after every stream, though it promised to keep it
    quirks=Quirks(keep_alive=False),
)
