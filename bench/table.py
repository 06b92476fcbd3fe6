"""The measurements as Markdown: one table per case, one row per target."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from bench.cases import Case
from bench.measure import Measurement

BASE: Final = "direct"  # latency is told as what is added to this target's
PEERS: Final = ("nginx", "bare")  # processor time is told as a multiple of these targets', where they were measured
NONE: Final = "-"

_Number = Callable[[Measurement], float | None]


def render(cases: Sequence[Case], targets: Sequence[str], measurements: Sequence[Measurement]) -> str:
    """All tables, in the order of the cases; a case that nothing was measured for is left out."""
    parts = []
    for case in cases:
        rows = {name: [m for m in measurements if m.case == case.name and m.target == name] for name in targets}
        measured = {name: found for name, found in rows.items() if found}
        if measured:
            parts.append(_table(case, measured))
    return "\n\n".join(parts)


def _table(case: Case, rows: dict[str, list[Measurement]]) -> str:
    word = "added " if BASE in rows else ""
    unit = "chunk" if case.stream else "request"
    columns = ["target", f"CPU us/{unit}", "least", *(f"x {peer}" for peer in PEERS if peer in rows), f"{unit}s/s"]
    if case.stream:
        columns += [f"{word}first token ms p50 / p99", f"{word}chunk delay ms p50 / p99"]
    else:
        columns += [f"{word}ms p50 / p99"]
    columns += ["ok", "failed", "RSS MB"]
    lines = [f"**{case.title}**", "", _line(columns), _line(["---", *["---:"] * (len(columns) - 1)])]
    lines += [_line(_row(case, name, rows)) for name in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(case: Case, name: str, rows: dict[str, list[Measurement]]) -> list[str]:
    own = rows[name]
    costs = _values(own, _cost(case))
    cost, least = (median(costs), min(costs)) if costs else (None, None)
    rate = median(_rate(case, one) for one in own)
    ratios = [_ratio(case, own, rows[peer]) for peer in PEERS if peer in rows]
    cells = [name, _figure(cost), _figure(least), *ratios, f"{rate:,.0f}"]
    cells += _delays(case, own, [] if name == BASE else rows.get(BASE, []))
    failed = sum(one.report.failed for one in own)
    rss = [one.rss_bytes / 1e6 for one in own if one.rss_bytes is not None]
    return [*cells, f"{sum(one.report.ok for one in own):,}", f"{failed:,}", f"{max(rss):,.0f}" if rss else NONE]


def _cost(case: Case) -> _Number:
    return (lambda m: m.cpu_us_per_chunk) if case.stream else (lambda m: m.cpu_us_per_request)


def _rate(case: Case, one: Measurement) -> float:
    return (one.report.chunks if case.stream else one.report.ok) / one.report.wall_seconds


def _values(measurements: Sequence[Measurement], number: _Number) -> list[float]:
    return [value for one in measurements if one.report.ok and (value := number(one)) is not None]


def _ratio(case: Case, own: Sequence[Measurement], base: Sequence[Measurement]) -> str:
    mine, peer = _values(own, _cost(case)), _values(base, _cost(case))
    return f"{median(mine) / median(peer):.1f}" if mine and peer and median(peer) else NONE


def _delays(case: Case, own: Sequence[Measurement], base: Sequence[Measurement]) -> list[str]:
    """The cells of latency: less that of the base where there is one, which itself is told as it is."""
    latency = _pair(own, base, lambda m: m.report.latency.p50, lambda m: m.report.latency.p99)
    if not case.stream:
        return [latency]
    first = _pair(own, base, lambda m: m.report.first.p50, lambda m: m.report.first.p99)
    return [first, _pair(own, base, lambda m: m.report.delay.p50, lambda m: m.report.delay.p99)]


def _pair(own: Sequence[Measurement], base: Sequence[Measurement], *numbers: _Number) -> str:
    cells = []
    for number in numbers:
        mine, theirs = _values(own, number), _values(base, number)
        cells.append(f"{median(mine) - (median(theirs) if theirs else 0.0):,.2f}" if mine else NONE)
    text = " / ".join(cells)
    return text if base or not mine else f"({text})"


def _figure(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def failures(measurements: Sequence[Measurement]) -> list[str]:
    """One line per measurement that had failures: what failed, how often."""
    return [
        f"{one.target}, {one.case}, repeat {one.repeat}: {one.report.failures}"
        for one in measurements
        if one.report.failed
    ]
