"""`polyroute simulate`: a policy that is not in force over the calls that were, or over traffic that is made up."""

import asyncio
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from rich.table import Table

from polyroute.api.metrics.v1.metrics_pb2 import CallRecord, ListCallsRequest, QueryUsageRequest
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.estimates import Comparison, compared, judged
from polyroute.cli.moments import span
from polyroute.cli.output import show
from polyroute.mesh.config import Section, read_yaml, validated
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ConfigError
from polyroute.router.journal import merged
from polyroute.router.policies import Policy, all_policies, compiled
from polyroute.router.policyconfig import PolicyConfig

SECONDS: Final = 30.0
TOGETHER: Final = 32  # calls that are looked up at once


class _Policies(Section):
    """A file of policies; other sections of a configuration file may be in it."""

    policies: dict[str, PolicyConfig]


def candidates(config: Config, names: Sequence[str]) -> list[Policy]:
    """Policies by file, or by their name in the configuration or among the built-in ones.

    A file holds either one policy, which is named after it, or a section `policies`.

    Raises:
        ConfigError: One cannot be read, or is not there.
    """
    known = all_policies(config.policies)
    found: list[Policy] = []
    for name in names:
        if name in known:
            found.append(known[name])
        elif not Path(name).suffix:
            raise ConfigError(f"--policy: there is no policy {name!r} (known: {', '.join(known)}), nor such a file")
        else:
            found += _of_file(Path(name))
    return found


def simulate(config: Config, names: Sequence[str], since: str, *, calls: int, seed: int, as_json: bool) -> None:
    """Prints what each policy would have made of the calls of some time."""
    policies = candidates(config, names)
    start = time.time() - span(since, "--since")

    async def work(node: Node) -> list[tuple[pb.DecisionRecord, CallRecord | None]]:
        decisions = await _decisions(node, start, calls)
        stub = MetricsServiceStub(node.channel("metrics"))
        records: list[CallRecord | None] = []
        for i in range(0, len(decisions), TOGETHER):
            some = decisions[i : i + TOGETHER]
            records += await asyncio.gather(*(_call(stub, one.request_id) for one in some))
        return list(zip(decisions, records, strict=True))

    history = run(config, work)
    if not history:
        raise ConfigError(f"no decision of the last {since} is kept")
    results = {
        policy.name: compared([judged(record, call, policy) for record, call in history], seed=seed)
        for policy in policies
    }
    if as_json:
        print(orjson.dumps({name: _tree(one) for name, one in results.items()}, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(results)


def _of_file(path: Path) -> list[Policy]:
    tree = read_yaml(path)
    if "policies" in tree:
        several = validated(_Policies, {"policies": tree["policies"]}, source=str(path))
        return [compiled(name, one) for name, one in several.policies.items()]
    return [compiled(path.stem, validated(PolicyConfig, tree, source=str(path)))]


async def _decisions(node: Node, start: float, most: int) -> list[pb.DecisionRecord]:
    """About as many decisions as wanted, evenly from all of the time; each can be replayed."""
    usage = QueryUsageRequest()
    usage.start_time.FromMicroseconds(int(start * 1e6))
    rows = (await MetricsServiceStub(node.channel("metrics")).QueryUsage(usage, timeout=SECONDS)).rows
    total = sum(row.calls for row in rows)
    request = pb.ListDecisionsRequest(page_size=1000, one_of=math.ceil(total / most) if total > most else 1)
    request.start_time.FromMicroseconds(int(start * 1e6))
    stub = RouterServiceStub(node.channel("router"))
    found: list[pb.DecisionRecord] = []
    while True:
        page = await stub.ListDecisions(request, timeout=SECONDS)
        found += [merged(one, page.shared[i]) for one, i in zip(page.records, page.shared_indices, strict=True)]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def _call(stub: Any, request_id: str) -> CallRecord | None:
    page = await stub.ListCalls(ListCallsRequest(request_id=request_id, page_size=1), timeout=SECONDS)
    return page.records[0] if page.records else None


def _show(results: Mapping[str, Comparison]) -> None:
    table = Table("policy", "figure", box=None)
    for column in ("happened", "instead", "difference", "95 % of it between"):
        table.add_column(column, justify="right")
    for name, one in results.items():
        for figure, bounds in one.figures.items():
            table.add_row(
                name,
                figure,
                f"{bounds.happened:.6g}",
                f"{bounds.instead:.6g}",
                f"{bounds.instead - bounds.happened:+.4g}",
                f"{bounds.low:+.4g} and {bounds.high:+.4g}",
            )
    show(table)
    for name, one in results.items():
        print(
            f"{name}: {one.calls} calls, {one.moved} of them elsewhere, {100 * one.unjudged:.1f} % cannot be judged",
            file=sys.stderr,
        )


def _tree(one: Comparison) -> dict[str, Any]:
    return {
        "calls": one.calls,
        "judged": one.judged,
        "moved": one.moved,
        "unjudged_share": one.unjudged,
        "figures": {name: bounds._asdict() for name, bounds in one.figures.items()},
    }
