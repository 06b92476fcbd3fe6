"""What a person sees who starts the gateway: how far it is, then where it is and how to ask it something."""

import sys
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.markup import escape

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.providers.v1.providers_pb2 import Provider, WatchProvidersRequest
from polyroute.api.providers.v1.providers_pb2_grpc import ProvidersServiceStub
from polyroute.api.router.v1.router_pb2 import ListModelsRequest, Model
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli.config import Config
from polyroute.mesh.node import Node

MEGABYTE: Final = 1_000_000
ADD_A_VENDOR: Final = "or set a vendor's key, such as OPENAI_API_KEY, and start again"


class Welcome:
    """Talks to the person at the terminal.

    Args:
        config: What is being started.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._secret = ""
        self._shown: dict[str, int] = {}

    def key(self, secret: str) -> None:
        """Takes the first key's secret: this is the only time it can be shown."""
        self._secret = secret
        self._console.print(f"[bold]key[/]       {secret}   [dim](shown this once: keep it)[/]")

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far the embedded model's weights are, in steps of ten percent."""
        percent = 100 * done // total // 10 * 10 if total else 0
        if percent != self._shown.get(stage):  # several weights come at once
            self._shown[stage] = percent
            self._console.print(f"[dim]model     {stage}: {percent} % of {total / MEGABYTE:.0f} MB[/]")

    async def greet(self, node: Node) -> None:
        """Says where the gateway is and how to ask it, once a model can answer."""
        found = await self._wait_for_a_model(node)
        base = node.bound["http"]
        self._console.print(f"[bold]ready[/]     {base}/v1   [dim]gRPC {node.bound['edge']}[/]")
        if not found:
            return
        models = (await RouterServiceStub(node.channel("router")).ListModels(ListModelsRequest(), timeout=5)).models
        model = next((model for model in models if chat_pb2.OPERATION_CHAT in model.operations), None)
        if model is not None:
            self._example(base, model)

    async def _wait_for_a_model(self, node: Node) -> bool:
        """Whether there is one; without the embedded model and any vendor there will be none until a new start."""
        from polyroute.providers.local.model import HINT

        watch = ProvidersServiceStub(node.channel("providers")).WatchProviders(WatchProvidersRequest())
        try:
            said = ""
            async for message in watch:
                if any(not provider.unavailable for provider in message.providers):
                    return True
                state = _state(message.providers)
                if HINT in state:
                    self._console.print(f"[yellow]no model is there yet:[/] {escape(HINT)}, {ADD_A_VENDOR}")
                    return False
                if state != said and state:
                    said = state
                    self._console.print(f"[dim]model     {escape(state)}[/]")
        finally:
            watch.cancel()
        return False

    def _example(self, base: str, model: Model) -> None:
        key = self._secret or "$POLYROUTE_KEY"
        if not self._secret:
            self._console.print("[dim]key       as shown at the first start; another: polyroute keys create[/]")
        body = f'{{"model":"{model.name}","stream":true,"messages":[{{"role":"user","content":"Say hello."}}]}}'
        self._console.print("[bold]try[/]")
        print(
            f'  curl -N {base}/v1/chat/completions -H "authorization: Bearer {key}" '
            f"-H 'content-type: application/json' \\\n    -d '{body}'",
            flush=True,
        )


def _state(providers: Iterable[Provider]) -> str:
    return ", ".join(provider.unavailable for provider in providers)
