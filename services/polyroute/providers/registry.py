"""Every vendor there is: the modules of `vendors/`, loaded once, duplicates refused."""

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from polyroute.providers import vendors
from polyroute.providers.vendor import Vendor


@functools.cache
def all_vendors() -> Mapping[str, Vendor]:
    """The vendors by name.

    Raises:
        ValueError: A module's name is not its vendor's.
    """
    found: dict[str, Vendor] = {}
    for module in pkgutil.iter_modules(vendors.__path__):
        vendor: Vendor = importlib.import_module(f"{vendors.__name__}.{module.name}").VENDOR
        if vendor.name != module.name:
            raise ValueError(f"vendors/{module.name}.py describes {vendor.name!r}")
        found[vendor.name] = vendor
    return found
