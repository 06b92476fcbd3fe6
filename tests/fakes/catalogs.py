"""Catalogs written as an operator writes them, and calls against them."""

from typing import Any

import yaml

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts
from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.api.router.v1.router_pb2 import DecideRequest
from polyroute.router.config import CatalogConfig
from polyroute.router.snapshot import CatalogStore

NOW = 1_800_000_000.0


def read(text: str) -> CatalogConfig:
    """A configuration from YAML text."""
    return CatalogConfig.model_validate(yaml.safe_load(text))


def opened(text: str, *providers: str | Provider) -> CatalogStore:
    """A store with a catalog from YAML text; the providers have been heard when any are given."""
    store = CatalogStore(read(text), clock=lambda: NOW)
    if providers:
        store.offer(Provider(name=one) if isinstance(one, str) else one for one in providers)
    return store


def ask(model: str, request_id: str = "r-1", **facts: Any) -> DecideRequest:
    """A request for a plan."""
    return DecideRequest(
        request_id=request_id, facts=RequestFacts(**{"operation": OPERATION_CHAT, "model": model, **facts})
    )
