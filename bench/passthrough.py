"""The least that a Python server in front of a vendor costs: it reads a request, asks the vendor, hands on what comes.

No keys, no choice, no records, no bounds: uvicorn and aiohttp as a first afternoon would put them together. What
Polyroute costs beyond it is what Polyroute does.

    python -m bench.passthrough --port 8081 --vendor http://127.0.0.1:9100
"""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn

Message = MutableMapping[str, Any]


class Passthrough:
    """An ASGI application that passes everything on.

    Args:
        origin: The vendor's.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._session: aiohttp.ClientSession | None = None

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Answers one request."""
        if self._session is None:  # made here: it needs the running loop
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        url = self._origin + scope["path"]
        headers = {"content-type": "application/json"}
        body = await _body(receive)
        async with self._session.request(scope["method"], url, data=body, headers=headers) as answer:
            kept = [(b"content-type", answer.headers.get("content-type", "").encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m bench.passthrough")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--vendor", required=True, help="origin of the vendor")
    args = parser.parse_args()
    uvicorn.run(
        Passthrough(args.vendor),
        host="127.0.0.1",
        port=args.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
