"""How what a provider bills is told of one of its models."""

from fnmatch import fnmatchcase

from polyroute.api.router.v1.router_pb2 import Billing


def billing_of(offered: Billing | None, upstream_model: str) -> Billing | None:
    """What a deployment bills beside its price; None where that is nothing out of the ordinary.

    Args:
        offered: What its provider says of all its models; None while nobody has heard that.
        upstream_model: The vendor's name of the model.
    """
    if offered is None:
        return None
    billing = Billing()
    billing.CopyFrom(offered)
    billing.ClearField("source")
    billing.ClearField("searching")
    name = upstream_model.lower()
    billing.searches = any(fnmatchcase(name, pattern) for pattern in offered.searching)
    return billing if billing.ByteSize() else None
