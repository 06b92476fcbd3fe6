"""Settings of channels and servers."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from polyroute.mesh import network
from polyroute.mesh.network import service_config, services_of, watches_of
from polyroute.mesh.roles import ROLES

HARMLESS = {  # unary methods that the contract declares free of side effects or idempotent
    "auth": {"Authorize", "GetCommonLimits", "ListKeys", "RevokeKey"},
    "metrics": {"Append", "QueryUsage", "ListCalls", "GetExposition"},
    "providers": set(),
    "router": {
        "ApplyCatalog",
        "Decide",
        "Explain",
        "GetCatalogStatus",
        "GetCatalogVersion",
        "ListCatalogVersions",
        "ListDecisions",
        "ListModels",
        "ListPrices",
        "PreviewPolicy",
    },
    "edge": {"ListModels"},
}


def config(role: str) -> dict[str, Any]:
    parsed: dict[str, Any] = orjson.loads(service_config(services_of(role)))
    return parsed


@pytest.mark.parametrize("role", ROLES)
def test_only_harmless_methods_are_repeated(role: str) -> None:
    """A vendor is never asked twice, a key never made twice, because a connection broke."""
    repeated = {
        entry["name"][0]["method"]: entry["retryPolicy"]
        for entry in config(role)["methodConfig"]
        if "retryPolicy" in entry
    }

    assert HARMLESS[role] == set(repeated)
    assert all(["UNAVAILABLE"] == policy["retryableStatusCodes"] for policy in repeated.values())


@pytest.mark.parametrize("role", ROLES)
def test_harmless_methods_wait_for_a_server_that_starts(role: str) -> None:
    """Watches as well; what has effects fails at once, and its caller decides."""
    waiting = {entry["name"][0]["method"] for entry in config(role)["methodConfig"] if entry["waitForReady"]}
    watches = {name for service in services_of(role) for name in watches_of(service.full_name)}

    assert HARMLESS[role] | watches == waiting


@pytest.mark.parametrize("role", ROLES)
def test_replicas_are_balanced_by_health(role: str) -> None:
    """And repeats are a small part of the load."""
    found = config(role)

    assert [{"round_robin": {}}] == found["loadBalancingConfig"]
    assert {"serviceName": services_of(role)[0].full_name} == found["healthCheckConfig"]
    assert {"maxTokens": 10, "tokenRatio": 0.1} == found["retryThrottling"]


def test_watches() -> None:
    """Streams without side effects; an answer of a model is none."""
    found = {name for role in ROLES for service in services_of(role) for name in watches_of(service.full_name)}

    assert {"WatchRevocations", "WatchProviders", "WatchStats"} == found


@pytest.mark.parametrize("options", [network._CHANNEL, network._SERVER], ids=["channel", "server"])
def test_flow_control_and_limits(options: tuple[tuple[str, int], ...]) -> None:
    """A reader that stops must stop the writer within 64 KiB; pictures need 16 MiB; no name twice."""
    found = dict(options)

    assert len(found) == len(options)
    assert (65_536, 0) == (found["grpc.http2.lookahead_bytes"], found["grpc.http2.bdp_probe"])
    assert 16 * 1024 * 1024 == found["grpc.max_receive_message_length"] == found["grpc.max_send_message_length"]
    assert 16 * 1024 == found["grpc.max_metadata_size"]


def test_every_option_is_one_that_grpc_knows() -> None:
    """It says nothing of others and goes by its defaults: a misspelt one once had quiet connections closed."""
    found = find_spec("grpc._cython.cygrpc")
    library = Path(found.origin if found and found.origin else "").read_bytes()

    assert [] == [name for name, _ in (*network._CHANNEL, *network._SERVER) if name.encode() not in library]


def test_pings_of_clients_are_not_too_many_for_servers() -> None:
    """Otherwise a quiet channel would be closed for pinging."""
    client, server = dict(network._CHANNEL), dict(network._SERVER)

    assert client["grpc.keepalive_time_ms"] > server["grpc.http2.min_ping_interval_without_data_ms"]


async def test_channel_has_the_contracts_two_kinds_of_call() -> None:
    """And refuses to make others."""
    async with network.open_channel("auth", "unix:/nowhere", tls=None, token="") as channel:
        for kind in (channel.stream_unary, channel.stream_stream):
            with pytest.raises(NotImplementedError, match="no client streams"):
                kind("/a/B")

        assert grpc.ChannelConnectivity.IDLE == channel.get_state()
