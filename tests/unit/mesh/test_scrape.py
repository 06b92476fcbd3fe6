"""Where a role without an HTTP door answers Prometheus."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from bench.gateways import free_port
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.scrape import HEAD_BYTES, scraped
from polyroute.mesh.telemetry import RpcMetrics


async def asked(port: int, request: bytes) -> bytes:
    """What comes back until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def test_the_figures_and_nothing_else() -> None:
    """Each connection gets one answer; what speaks something else gets none and harms nobody."""
    registry, port = CollectorRegistry(), free_port()
    RpcMetrics(registry).observe("/a/B", "OK", 0.1)
    async with scraped(registry, f"127.0.0.1:{port}"):
        found = await asked(port, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        missing = await asked(port, b"GET / HTTP/1.1\r\n\r\n")
        noise = await asked(port, b"x" * (2 * HEAD_BYTES))
        again = await asked(port, b"GET /metrics HTTP/1.1\r\n\r\n")

    assert found.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=")
    assert b'polyroute_rpc_handled_total{code="OK",method="/a/B"} 1.0' in found
    assert missing.startswith(b"HTTP/1.1 404 ")
    assert b"" == noise
    assert found == again
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asked(port, b"")


async def test_nowhere() -> None:
    """Where no address is given nothing listens."""
    async with scraped(CollectorRegistry(), ""):
        pass


def test_addresses_are_checked() -> None:
    """A wrong one is found at the start."""
    with pytest.raises(ValidationError, match="not host:port"):
        MeshConfig(figures={"router": "7104:"})
    with pytest.raises(ValidationError, match="unknown role 'rooter'"):
        MeshConfig(figures={"rooter": "127.0.0.1:1"})
