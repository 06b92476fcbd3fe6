"""What a vendor's account signs its requests with; see `credentials.Signing`."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from polyroute.providers.credentials import Signer
from polyroute.providers.http import Target
from polyroute.providers.signing import aws, google, sigv4
from polyroute.providers.signing.ask import Ask
from polyroute.providers.signing.google import AccessTokens

DEFAULT_REGION: Final = "us-east-1"
BEARER_SERVICE: Final = "bedrock"  # whose API keys stand in the environment


class Signers:
    """Makes signers; one of them for all accounts, so that what they share is fetched once.

    Args:
        environment: The process's own.
        home: Where tools leave credentials.
        ask: Asks over HTTP.
        clock: Seconds that only grow.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        home: Path,
        ask: Ask,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._environment = environment
        self._home = home
        self._ask = ask
        self._clock = clock
        self._now = now
        self._machine = aws.MachineCredentials(environment, home, clock=clock)
        self._tokens: dict[str, AccessTokens] = {}

    def aws(self, secret: str, *, service: str, region: str) -> Signer:
        """Signature Version 4; see `credentials.Signing`."""
        given = aws.parse_key(secret) if secret else None
        where = region or self._environment.get("AWS_REGION") or DEFAULT_REGION

        async def sign(target: Target, body: bytes) -> Mapping[str, str]:
            if given is None and service == BEARER_SERVICE and (bearer := aws.api_key(self._environment)):
                return {"authorization": f"Bearer {bearer}"}
            credentials = given or await self._machine.get()
            return sigv4.sign(request_of(target, body), credentials, region=where, service=service, at=self._now())

        return sign

    def google(self, secret: str) -> Signer:
        """An access token; see `credentials.Signing`."""
        tokens = self._tokens.get(secret)
        if tokens is None:
            tokens = self._tokens[secret] = AccessTokens(
                lambda: google.locate(secret, self._environment, self._home),
                self._ask,
                clock=self._clock,
                now=self._now,
            )

        async def sign(target: Target, body: bytes) -> Mapping[str, str]:
            return {"authorization": f"Bearer {await tokens.get()}"}

        return sign


def request_of(target: Target, body: bytes) -> sigv4.Request:
    """A target's request as it will stand on the wire, with the headers that nobody changes on the way."""
    first, *lines = target.head.decode("latin-1").removesuffix("\r\n").split("\r\n")
    method, place, _ = first.split(" ")
    path, _, query = place.partition("?")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    host = next((value for name, value in pairs if name == "host"), target.address.host)
    signed = tuple(pair for pair in pairs if pair[0] == "content-type" or pair[0].startswith("x-amz-"))
    return sigv4.Request(method, host, path, query, signed, body)
