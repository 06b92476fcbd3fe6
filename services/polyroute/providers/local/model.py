"""The embedded model as the providers role sees it: started, watched, and found wherever it runs on this machine.

Several gateway processes share one child (`share.py`): each runs a `LocalModel`, one of them owns the child, the
others use it, and when the owner ends another takes over within about two seconds with a new address and key. So
endpoints are asked for at every call and never kept. The owner's settings are the ones that count.

What speaks at the endpoints is llama.cpp's own server, in OpenAI's dialects. What an adapter must know of it:

| asked for | what happens | the adapter |
|---|---|---|
| a `model` of any name | accepted, answered by the only model, under its own name | checks the name |
| no system message | ours is put in (`server.SYSTEM_PROMPT`), by the chat template | nothing |
| `developer` message | read as system | nothing |
| no `temperature`, `min_p`, `repeat_penalty` | `server.TEMPERATURE` and so on | nothing |
| no bound of the answer | 1024 tokens (`answer_tokens`) | nothing |
| `max_tokens: 0` | one token | refuses |
| `messages: []` | accepted, nonsense | refuses |
| `tools`, even `tool_choice: "required"` | ignored: text, never `tool_calls` | does not declare tools |
| `response_format` json_object, json_schema | held to by a grammar; an unreadable schema is 400 | nothing |
| a prompt longer than the context | 400, type `exceed_context_size_error` | context overflow |
| an image or sound part | 500 | refuses: the caller's error |
| `logprobs` | OpenAI's form, with an extra `id` | nothing |
| `n` over 1 | 400: there is one slot | refuses, or asks one after the other |
| a wrong key | 401 | tries with fresh endpoints: the child was replaced |
| embedding input over 512 tokens | 500, "too large to process" | refuses or maps to 400 |
| embedding `dimensions` | ignored: always 384, of length one | refuses another number |
| embedding `encoding_format` base64 | done | nothing |
| embedding input `""` | a vector; `[]` is 400 | nothing |
| chat at the embedding address, or the reverse | 500, or 501 | uses the right one |
| /v1/rerank | needs another kind of model | ranks by cosine of embeddings, and says so |
| more callers than one | they queue for the one slot; leaving gives it up | bounds its own queue |
| `json_object` without saying which | valid, and rambling: may end at the bound, cut | nothing |
| nothing for ten minutes | memory is given back; the next call takes 1 s more | nothing |
| a kept connection | closed after every stream without saying so, and after 5 s | `Connection: close` always |
| a long wait for the first token | SSE comment lines as pings every 30 s | skips comments |
"""

import asyncio
import importlib.util
import secrets
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from polyroute.providers.local.child import Child, ChildError, Endpoints
from polyroute.providers.local.config import LocalModelConfig
from polyroute.providers.local.download import FetchError, fetch
from polyroute.providers.local.server import Settings
from polyroute.providers.local.share import Share, ShareError
from polyroute.providers.local.status import Phase, Status
from polyroute.providers.local.weights import CHAT, EMBEDDING, Cache, Progress, Weights

HINT: Final = 'the embedded model is not installed: pip install "polyroute[local]"'
POLL_SECONDS: Final = 0.2  # between two looks of a process that does not own the child
FIRST_DELAY: Final = 0.25  # seconds before another try after one failure; doubles with each
LONGEST_DELAY: Final = 60.0
STABLE_SECONDS: Final = 30.0  # a child that served that long had not failed to start

_log = structlog.get_logger()


class RunningChild(Protocol):
    """What is needed of a child; `child.Child` is one."""

    endpoints: Endpoints

    async def died(self) -> ChildError:
        """Waits for its end and says how it came."""

    async def stop(self) -> None:
        """Ends it."""


class Spawn(Protocol):
    """Starts a child and waits until it serves; `Child.start` does. Raises `ChildError`."""

    async def __call__(self, settings: Settings, *, seconds: float) -> RunningChild:
        """Starts one."""


class LocalModel:
    """Keeps the embedded model running, or finds the one that another process keeps.

    Nothing of it can take the gateway along: what goes wrong becomes the state, and is tried again with growing
    delays unless this machine cannot run the model at all. It never blocks the event loop: hashing, unpacking and
    conversion run in threads, the installer and the model in child processes.

    Args:
        config: The settings.
        progress: Told how far a fetch is, if this process does it.
        weights: Gives the path of weights, fetched if need be; `weights.Cache.ensure` when not given.
        spawn: Starts a child.
        installed: Whether the extra is there.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        config: LocalModelConfig,
        *,
        progress: Progress | None = None,
        weights: Callable[[Weights], Coroutine[Any, Any, Path]] | None = None,
        spawn: Spawn = Child.start,
        installed: Callable[[], bool] = lambda: importlib.util.find_spec("xllamacpp") is not None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._progress = progress
        cache = Cache(config.cache, fetch=fetch if config.fetch else None, progress=self._fetching)
        self._weights = weights or cache.ensure
        self._spawn = spawn
        self._installed = installed
        self._clock = clock
        self._share = Share(config.runtime)
        self._owner = False
        self._failures = 0
        self._status = Status(Phase.STOPPED)
        self._callbacks: list[Callable[[Status], None]] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> Status:
        """Phase, reason and endpoints, together."""
        return self._status

    @property
    def state(self) -> str:
        """The status for people: "stopped", "absent: hint", "fetching", "loading", "ready" or "failed: why"."""
        return str(self._status)

    @property
    def owner(self) -> bool:
        """Whether the child is this process's."""
        return self._owner

    @property
    def base_url(self) -> str | None:
        """Address of chat and completion; None unless ready."""
        return self._status.endpoints.base_url if self._status.endpoints else None

    @property
    def embedding_url(self) -> str | None:
        """Address of embeddings; None unless ready."""
        return self._status.endpoints.embedding_url if self._status.endpoints else None

    @property
    def api_key(self) -> str | None:
        """Bearer token for both addresses; None unless ready."""
        return self._status.endpoints.api_key if self._status.endpoints else None

    def subscribe(self, callback: Callable[[Status], None]) -> Callable[[], None]:
        """Has `callback` told every new status, on the event loop, until the function returned is called.

        It is not told the present one; it must not raise.
        """
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def wait_for(self, *phases: Phase) -> Status:
        """The first status from now on whose phase is one of these; the present one counts."""
        if self._status.phase in phases:
            return self._status
        reached: asyncio.Future[Status] = asyncio.get_running_loop().create_future()

        def look(status: Status) -> None:
            if status.phase in phases and not reached.done():
                reached.set_result(status)

        forget = self.subscribe(look)
        try:
            return await reached
        finally:
            forget()

    async def start(self) -> None:
        """Begins; returns at once. Does nothing more when the extra is absent, or when it has begun."""
        if self._task is not None:
            return
        if not self._installed():
            self._tell(Status(Phase.ABSENT, HINT))
            return
        self._tell(Status(Phase.LOADING))
        self._task = asyncio.create_task(self._run(), name="local-model")

    async def stop(self) -> None:
        """Ends the child if it is ours, and lets another process take over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None
        self._share.release(owner=self._owner)
        self._owner = False
        self._tell(Status(Phase.STOPPED))

    async def _run(self) -> None:
        while True:
            try:
                await self._become_owner()
                await self._serve()
            except Exception as error:  # noqa: BLE001 - the boundary: the gateway goes on without the model
                delay = min(FIRST_DELAY * 2**self._failures, LONGEST_DELAY)
                self._failures += 1
                self._failed(error, delay)
                if isinstance(error, ChildError) and error.hopeless:
                    return  # still the owner: the others need not find out for themselves
                await asyncio.sleep(delay)

    async def _become_owner(self) -> None:
        """Uses the owner's child for as long as there is an owner."""
        while not self._share.claim():
            self._tell(self._share.read())
            await asyncio.sleep(POLL_SECONDS)
        self._owner = True

    async def _serve(self) -> None:
        """Fetches what is missing, starts a child and stays with it; always ends with its `ChildError`."""
        began = self._clock()
        self._tell(Status(Phase.LOADING))
        settings = await self._settings()
        self._tell(Status(Phase.LOADING))
        child = await self._spawn(settings, seconds=self._config.start_seconds)
        ready = self._clock()
        _log.info("local model ready", seconds=round(ready - began, 2), pid=child.endpoints.pid)
        try:
            self._tell(Status(Phase.READY, endpoints=child.endpoints))
            error = await child.died()
        finally:
            await child.stop()
        if self._clock() - ready >= STABLE_SECONDS:
            self._failures = 0
        raise error

    async def _settings(self) -> Settings:
        try:
            async with asyncio.TaskGroup() as group:
                chat = group.create_task(self._weights(CHAT))
                embedding = group.create_task(self._weights(EMBEDDING))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the other was cancelled, or failed for the same reason
        return Settings(
            chat_path=str(chat.result()),
            chat_name=CHAT.name,
            embedding_path=str(embedding.result()),
            embedding_name=EMBEDDING.name,
            api_key=secrets.token_urlsafe(32),
            context_tokens=self._config.context_tokens,
            answer_tokens=self._config.answer_tokens,
            threads=self._config.threads,
            idle_seconds=self._config.idle_seconds,
        )

    def _fetching(self, stage: str, done: int, total: int) -> None:
        self._tell(Status(Phase.FETCHING))
        if self._progress is not None:
            self._progress(stage, done, total)

    def _failed(self, error: Exception, delay: float) -> None:
        if isinstance(error, (FetchError, ChildError, ShareError, OSError)):
            _log.warning("local model failed", reason=str(error), retry_seconds=delay)
            self._tell(Status(Phase.FAILED, str(error)))
        else:
            _log.error("local model failed", exc_info=error, retry_seconds=delay)
            self._tell(Status(Phase.FAILED, "internal error; see the log"))

    def _tell(self, status: Status) -> None:
        """Makes this the status, for the subscribers and, when we own the child, for the other processes."""
        if status == self._status:
            return
        self._status = status
        if self._owner:
            self._publish(status)
        for callback in tuple(self._callbacks):
            callback(status)

    def _publish(self, status: Status) -> None:
        try:
            self._share.publish(status)
        except OSError as error:
            # the model serves this process all the same
            _log.warning("local model not shared", reason=str(error))
