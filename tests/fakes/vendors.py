"""A vendor that can be asked in every wire format: it plays scripted turns and keeps what it was asked.

The path says in which format it is asked, as it does with the real ones. Streams leave in several pieces that end
anywhere, in the middle of an event or of a character.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import orjson
from aiohttp import web

from tests.fakes.formats import FORMATS
from tests.fakes.own_formats import OWN_FORMATS
from tests.fakes.turns import Format, Heard, Turn
from tests.fakes.works import WORKS, Form, Work

ALL: Final[Mapping[str, Format]] = {one.name: one for one in (*FORMATS, *OWN_FORMATS)}
# Ends of paths, and whether the answer is a stream where only the path says so.
_PLACES: Final[Mapping[str, tuple[str, bool]]] = {
    "/chat/completions": ("openai.chat", False),
    "/responses": ("openai.responses", False),
    "/messages": ("anthropic.messages", False),
    ":generateContent": ("gemini.generate", False),
    ":streamGenerateContent": ("gemini.generate", True),
    "/converse": ("bedrock.converse", False),
    "/converse-stream": ("bedrock.converse", True),
    "/v2/chat": ("cohere.chat", False),
    "/api/chat": ("ollama.chat", False),
    "/generation": ("dashscope.generation", False),
}
PIECES: Final = 16


@dataclass(slots=True)
class Seen:
    """One request.

    Attributes:
        dialect: The format of a conversation; empty for other work.
        method: HTTP's.
        path: With its query.
        headers: Names in lower case.
        body: As it came; empty for a form.
        heard: What a conversation asks.
        form: What other work asks.
    """

    dialect: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    heard: Heard = field(default_factory=Heard)
    form: Form = field(default_factory=lambda: Form({}))

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return orjson.loads(self.body)


class Vendors:
    """The server.

    Attributes:
        turns: What is said next, in order.
        turn: What is said when those are used up.
        seen: The requests.
    """

    def __init__(self) -> None:
        self.turns: deque[Turn] = deque()
        self.turn = Turn(text="hello there")
        self.seen: list[Seen] = []
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it is, without a version."""
        assert self._runner is not None
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @property
    def last(self) -> Seen:
        """The newest request."""
        return self.seen[-1]

    def say(self, *turns: Turn) -> None:
        """Answers the next requests by these, and by nothing that was left over."""
        self.turns = deque(turns)
        self.turn = Turn(text="hello there")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        form = await _form(request) if request.content_type.startswith("multipart/") else None
        body = b"" if form is not None else await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.rel_url.raw_path
        seen = Seen("", request.method, request.raw_path, headers, body)
        self.seen.append(seen)
        work = next((work for end, work in WORKS.items() if path.endswith(end)), None)
        if request.method != "POST":
            return web.json_response({"object": "list", "data": [], "method": request.method})
        if work is not None:
            seen.form = form or Form(orjson.loads(body))
            return await _work(request, work(seen.form))
        place = next((place for end, place in _PLACES.items() if path.endswith(end)), None)
        if place is None:
            return web.json_response({"error": {"message": "no such path", "type": "not_found"}}, status=404)
        seen.dialect, streamed = place
        spoken = ALL[seen.dialect]
        seen.heard = spoken.hear(orjson.loads(body))
        seen.heard.stream = seen.heard.stream or streamed
        turn = self.turns.popleft() if self.turns else self.turn
        if turn.echo:
            turn = replace(turn, text=seen.heard.texts[-1][1])
        return await _answer(request, spoken, turn, stream=seen.heard.stream)


async def _form(request: web.Request) -> Form:
    fields: dict[str, Any] = {}
    files: dict[str, tuple[str, bytes]] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            files[name] = (value.filename, value.file.read())
        else:
            fields[name] = value
    return Form(fields, files)


async def _work(request: web.Request, work: Work) -> web.StreamResponse:
    return await _pieces(request, work.body, work.kind, work.pieces)


async def _answer(request: web.Request, spoken: Format, turn: Turn, *, stream: bool) -> web.StreamResponse:
    if turn.status != 200:
        wait = {} if turn.retry_after is None else {"retry-after": str(turn.retry_after)}
        return web.json_response(body=orjson.dumps(spoken.error(turn)), status=turn.status, headers=wait)
    if not stream:
        return web.json_response(body=orjson.dumps(spoken.whole(turn)))
    events = spoken.stream(turn)
    if turn.breaks:
        events.append(spoken.broken(turn))
    elif not turn.cut:
        events += spoken.end(turn)
    return await _pieces(request, b"".join(events), spoken.kind, PIECES)


async def _pieces(request: web.Request, body: bytes, kind: str, count: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": kind})
    await response.prepare(request)
    for piece in _cut(body, count):
        await response.write(piece)
        await asyncio.sleep(0.001)  # a network piece of its own
    await response.write_eof()
    return response


def _cut(body: bytes, count: int) -> Iterator[bytes]:
    size = len(body) // count + 1
    yield from (body[place : place + size] for place in range(0, len(body), size))
