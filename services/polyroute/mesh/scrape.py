"""Where a role without an HTTP door answers Prometheus: `GET /metrics` and nothing else, one request a connection."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

SECONDS: Final = 5.0  # for a request to arrive, and again for its answer to leave
HEAD_BYTES: Final = 16 * 1024

_log = structlog.get_logger("mesh")


@asynccontextmanager
async def scraped(registry: CollectorRegistry, address: str) -> AsyncGenerator[None]:
    """Answers with the figures of a process while the body runs.

    Args:
        registry: The figures.
        address: `host:port`; empty for nowhere.
    """
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(partial(_answer, registry), host.strip("[]"), int(port), limit=HEAD_BYTES)
    _log.info("figures at", address=address)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


async def _answer(registry: CollectorRegistry, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        found = head.partition(b"\r\n")[0].split(b" ")[:2] == [b"GET", b"/metrics"]
        body = generate_latest(registry) if found else b"there is only GET /metrics\n"
        status = "200 OK" if found else "404 Not Found"
        kind = CONTENT_TYPE_LATEST if found else "text/plain"
        lines = (f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", "connection: close")
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        async with asyncio.timeout(SECONDS):
            await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # whoever asked is slow, speaks something else, or has gone
    finally:
        writer.close()
