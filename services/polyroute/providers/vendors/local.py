"""The embedded model: two models of this machine, without an account. See `polyroute.providers.local`."""

from typing import Final

from polyroute.providers.vendor import WITH_COMPLETIONS, Quirks, Vendor

VENDOR: Final = Vendor(
    name="local",
    dialects=WITH_COMPLETIONS,
    keyless=True,
    # the embedded server closes a kept connection after every stream, though it promised to keep it
    quirks=Quirks(keep_alive=False),
)
