"""Messages at thresholds of budgets: who gets which, how often, and how they are signed."""

import asyncio
import hashlib
import hmac
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiohappyeyeballs import AddrInfoType
from aiohttp import web
from sqlalchemy import insert

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.paging import Page
from polyroute.auth.money.alerts import TRIES, Alerts, Letter, signature
from polyroute.auth.money.periods import Period
from polyroute.auth.money.webhook import Webhook, is_public
from polyroute.mesh.errors import MeshError
from tests.unit.auth.money import ACCOUNT, KEY, PROJECT, Treasury, treasury

ALL = Page(1000, ())
URL = "https://hooks.example.com/x"


@dataclass
class Post:
    """Takes letters, unless it is away."""

    letters: list[tuple[Letter, int]] = field(default_factory=list)
    away: bool = False

    async def send(self, letter: Letter, at: int) -> str:
        """As a webhook does."""
        self.letters.append((letter, at))
        return "away" if self.away else ""

    @property
    def said(self) -> list[tuple[str, int]]:
        """Scope and threshold of each."""
        trees = [orjson.loads(letter.body) for letter, _ in self.letters]
        return [(tree["budget"]["scope"], tree["percent"]) for tree in trees]


@dataclass
class Office:
    """Alerts of a ledger."""

    money: Treasury
    post: Post
    alerts: Alerts

    async def tick(self) -> int:
        """One round; how many messages arrived."""
        await self.alerts.look()
        return await self.alerts.deliver()


@pytest.fixture
async def office(tmp_path: Path) -> AsyncGenerator[Office]:
    """A fresh one."""
    async with treasury(tmp_path) as money:
        async with money.database.writing() as connection:
            await connection.execute(insert(schema.accounts).values(id=ACCOUNT, name="a", created=0))
            row = {"id": PROJECT, "account_id": ACCOUNT, "name": "p", "created": 0}
            await connection.execute(insert(schema.projects).values(row))
        post = Post()

        def digest(text: str) -> bytes:
            return hashlib.blake2b(text.encode(), key=b"pepper").digest()

        alerts = Alerts(money.database, money.ledger, digest, post.send, Webhook(private=False).check)
        yield Office(money, post, alerts)


async def test_each_threshold_is_told_once_in_a_period(office: Office) -> None:
    """However often it is looked at; a new period begins anew."""
    await office.money.budget(PROJECT, 100, period=Period.DAILY, hard=False)
    await office.alerts.create(PROJECT, URL, [])
    for cost in (49, 1, 29, 1, 30):
        await office.money.charge(f"r-{cost}-{office.post.said}"[:60], cost)
        await office.tick()
        await office.tick()
    told = list(office.post.said)
    office.money.clock.advance(86_400)
    await office.money.charge("next", 60)
    await office.tick()

    assert [(PROJECT, 50), (PROJECT, 80), (PROJECT, 100)] == told
    assert [(PROJECT, 50)] == office.post.said[3:]


async def test_only_budgets_of_the_scope_and_only_at_its_own_thresholds(office: Office) -> None:
    """A balance begins anew with each payment."""
    await office.money.budget(KEY, 100, hard=False)
    await office.money.budget(ACCOUNT, 0, prepaid=True)
    await office.money.ledger.credit(ACCOUNT, 100, "pay-1")
    await office.alerts.create(ACCOUNT, URL, [90, 10])
    await office.money.charge("r", 95)
    await office.tick()
    first = list(office.post.said)
    await office.money.ledger.credit(ACCOUNT, 100, "pay-2")
    await office.tick()

    assert [(ACCOUNT, 10), (ACCOUNT, 90)] == first
    assert [(ACCOUNT, 10)] == office.post.said[2:]


async def test_a_receiver_that_is_away_gets_it_later_and_the_same(office: Office) -> None:
    """With longer and longer pauses; it is given up in the end, and says so."""
    await office.money.budget(KEY, 100, hard=False)
    await office.alerts.create("", URL, [50])
    await office.money.charge("r", 50)
    office.post.away = True
    await office.tick()
    await office.tick()
    early = len(office.post.letters)
    office.money.clock.advance(7)
    await office.tick()
    office.post.away = False
    office.money.clock.advance(13)
    arrived = await office.tick()
    office.money.clock.advance(10**6)
    await office.tick()

    [delivery], _ = await office.alerts.deliveries("", ALL)
    assert (1, 1, 3) == (early, arrived, len(office.post.letters))
    assert (3, "", True) == (delivery.tries, delivery.problem, delivery.delivered is not None)
    assert 1 == len({(letter.id, letter.body) for letter, _ in office.post.letters})


async def test_a_receiver_that_never_answers_is_given_up(office: Office) -> None:
    """After a day or so; and at once when the alert is ended."""
    await office.money.budget(KEY, 100, hard=False)
    first, _ = await office.alerts.create("", URL, [50])
    await office.money.charge("r", 50)
    office.post.away = True
    for _ in range(TRIES + 3):
        await office.tick()
        office.money.clock.advance(5000)
    given_up, _ = await office.alerts.deliveries(first.id, ALL)
    second, _ = await office.alerts.create("", URL, [50])
    await office.tick()
    await office.alerts.delete(second.id)
    ended, _ = await office.alerts.deliveries(second.id, ALL)

    assert [(TRIES, None, "away")] == [(one.tries, one.next_try, one.problem) for one in given_up]
    assert [(None, "the alert was ended")] == [(one.next_try, one.problem) for one in ended]


async def test_a_message_is_signed_with_its_time(office: Office) -> None:
    """By the alert's own secret, which is in no table."""
    await office.money.budget(KEY, 100, hard=False)
    alert, secret = await office.alerts.create("", URL, [50])
    await office.money.charge("r", 50)
    await office.tick()
    [(letter, at)] = office.post.letters

    stamp, _, mac = signature(letter.secret, at, letter.body).removeprefix("t=").partition(",v1=")
    assert secret == letter.secret
    assert hmac.new(secret.encode(), stamp.encode() + b"." + letter.body, hashlib.sha256).hexdigest() == mac
    assert str(int(office.money.clock())) == stamp
    rows = [*await office.money.rows(schema.alerts), *await office.money.rows(schema.deliveries)]
    assert secret not in repr(rows)
    assert alert.id in repr(rows)


async def test_an_alert_of_nobody_is_refused(office: Office) -> None:
    """There must be whom it is about."""
    with pytest.raises(MeshError) as caught:
        await office.alerts.create("prj_none", URL, [])

    assert errors_pb2.REASON_NOT_FOUND == caught.value.reason


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://10.0.0.8:8443/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://user:pass@hooks.example.com/",
        "file:///etc/passwd",
        "https://",
        "https://[",
        "https://example.com:99999/",
    ],
)
async def test_addresses_that_nothing_is_sent_to(url: str) -> None:
    """Inside of our own network, in every spelling; and whatever is no address."""
    with pytest.raises(MeshError):
        Webhook(private=False).check(url)


async def test_a_name_that_means_a_private_address_is_not_reached() -> None:
    """Its addresses are looked at when the connection is made, so that it cannot mean another one in between."""
    asked: list[tuple[str, int]] = []

    async def names(host: str, port: int) -> list[AddrInfoType]:
        asked.append((host, port))
        found = ("93.184.215.14", "192.168.1.1")  # one public address does not make the other one good
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    webhook = Webhook(private=False, resolve=names)
    answers = [await webhook.send(Letter("evt_1", url, "s", b"{}"), 5) for url in (URL, "https://bücher.example:8443/")]

    assert ["the address is not a public one"] * 2 == answers
    assert [("hooks.example.com", 443), ("xn--bcher-kva.example", 8443)] == asked


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    """Also where one carries another inside."""
    assert is_public(address)


async def test_a_letter_over_http(unused_tcp_port: int) -> None:
    """To a receiver in the same network, where that is allowed; a redirect is not followed."""
    got: list[tuple[str, bytes]] = []

    async def receive(request: web.Request) -> web.StreamResponse:
        got.append((request.headers["polyroute-signature"], await request.read()))
        assert request.host == f"127.0.0.1:{unused_tcp_port}"
        if request.path == "/moved":
            raise web.HTTPFound("/")
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/{tail:.*}", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    url = f"http://127.0.0.1:{unused_tcp_port}/"
    letters = [Letter("evt_1", f"{url}{path}", "s", b"{}") for path in ("", "moved")]
    try:
        webhook = Webhook(private=True)
        answers = [await webhook.send(letter, 5) for letter in letters]
        refused = await Webhook(private=False).send(letters[0], 5)
    finally:
        await runner.cleanup()

    assert ["", "the receiver answered 302"] == answers
    assert "messages go over https only" == refused
    assert [(signature("s", 5, b"{}"), b"{}")] * 2 == got


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"", "the receiver cannot be reached: EOFError"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the receiver cannot be reached: EOFError"),
        (b"HTTP/1.1 soon\r\n", "the receiver cannot be reached: ValueError"),
        (b"x" * 100_000, "the receiver cannot be reached: ValueError"),
    ],
)
async def test_what_receivers_answer(answer: bytes, said: str, unused_tcp_port: int) -> None:
    """Only a status counts; what is none is no answer."""

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(answer)
        writer.close()

    url = f"http://127.0.0.1:{unused_tcp_port}/a b?c=%20"
    async with await asyncio.start_server(receive, "127.0.0.1", unused_tcp_port):
        assert said == await Webhook(private=True).send(Letter("evt_1", url, "s", b"{}"), 5)
