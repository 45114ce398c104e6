"""What the results say: tables, what has to hold, and the picture of the growth."""

from dataclasses import dataclass
from pathlib import Path

from picture import draw

# Name in the results → name for people.
SUBJECTS = {
    "steady": "**haproxy-host-exporter, a sample**",
    "cold": "haproxy-host-exporter, the first sample",
    "ss": "`ss -tlnp`",
    "lsof": "`lsof -nP -iTCP -sTCP:LISTEN`",
    "process-exporter": "process-exporter, a scrape",
    "node-exporter": "node-exporter, a scrape",
}
SIZES = ["processes", "listeners", "sockets", "others"]
NAMES = {size: size for size in SIZES} | {"others": "other processes"}
MIB = 1 << 20
# A sample is to cost no more than so many times the floor.
FLOORS = 2
# What other ways to ask the same cost, by their names in the results of floor.rs.
WAYS = {
    "stat_opened": "`stat` of a process, opened, read and closed",
    "stat_kept": "the same, kept open and read with pread",
    "link_by_name": "the link of a descriptor, read by its name",
    "link_kept": "the same, kept open (**used**)",
    "link_statx": "the same, by statx without following it",
}


class Results:
    """The results of a run. The first point is the one where things have to hold."""

    def __init__(self, raw: dict):
        self.machine = raw["machine"]
        self.versions = raw["versions"]
        self.points = raw["points"]
        for point in self.points:
            # Results of before other processes were counted.
            point["size"].setdefault("others", 100)
        self.must = self.points[0]
        self.extras = self.must["extras"]

    def growth(self, size: str) -> list[dict]:
        """The points that differ in this size only, from small to large: the largest such set."""
        alike: dict[tuple, list[dict]] = {}
        for point in self.points:
            others = tuple(point["size"][other] for other in SIZES if other != size)
            alike.setdefault(others, []).append(point)
        return sorted(max(alike.values(), key=len), key=lambda point: point["size"][size])


def cpu(point: dict, subject: str) -> float:
    return point["costs"][subject]["cpu_seconds"]


@dataclass
class Verdict:
    """Something that has to hold, or an aim, which may be missed."""

    what: str
    value: str
    bound: str
    holds: bool
    is_aim: bool = False

    @property
    def word(self) -> str:
        if self.holds:
            return "PASS"
        return "MISSED" if self.is_aim else "FAIL"


def verdicts(results: Results) -> list[Verdict]:
    """What has to hold, and what came out."""
    costs = results.must["costs"]
    sockets = results.growth("sockets")
    samples = [cpu(point, "steady") for point in sockets]
    spread = max(samples) / min(samples) - 1
    resident = costs["steady"]["resident_bytes"]
    p99 = max(results.extras["latency"][phase]["p99"] for phase in ("first_sample", "later"))
    range_of = f"{sockets[0]['size']['sockets']:,} to {sockets[-1]['size']['sockets']:,} sockets"
    return [
        times_less(results, "ss", 100),
        times_less(results, "process-exporter", 20),
        times_less(results, "node-exporter", 40),
        Verdict(f"CPU of a sample, {range_of}", percent(spread), "≤ 20 %", spread <= 0.2),
        first_sample(results),
        *own_memory(costs["steady"]),
        Verdict("p99 of a scrape while sampling", f"{p99 * 1e3:.2f} ms", "< 2 ms", p99 < 0.002),
        times_less(results, "ss", 300, is_aim=True),
        Verdict("resident memory", memory(costs["steady"]), "aim < 12 MiB", resident < 12 * MIB, is_aim=True),
        *(against_floor(results, size) for size in SIZES if has_floor(results.growth(size))),
    ]


def own_memory(cost: dict) -> list[Verdict]:
    """The memory that the kernel cannot read again from a file. Results of before it was measured have none."""
    own = cost.get("anonymous_bytes")
    if own is None:
        return []
    return [Verdict("memory of its own (anonymous)", f"{own / MIB:.1f} MiB", "< 8 MiB", own < 8 * MIB)]


def memory(cost: dict) -> str:
    """Resident memory, and how much of it is the process's own."""
    told = f"{cost['resident_bytes'] / MIB:.1f} MiB"
    own = cost.get("anonymous_bytes")
    return told if own is None else f"{told}, {own / MIB:.1f} of it anonymous"


def has_floor(points: list[dict]) -> bool:
    return all("floor" in point for point in points)


def over_floor(point: dict) -> float:
    """How many times the floor a sample costs."""
    return cpu(point, "steady") / point["floor"]["cpu_seconds"]


def against_floor(results: Results, size: str) -> Verdict:
    points = results.growth(size)
    ratios = [over_floor(point) for point in points]
    what = f"CPU of a sample against the floor, {points[0]['size'][size]:,} to {points[-1]['size'][size]:,} {NAMES[size]}"
    value = f"{min(ratios):.1f} to {max(ratios):.1f} times"
    return Verdict(what, value, f"aim ≤ {FLOORS}", max(ratios) <= FLOORS, is_aim=True)


def percent(share: float) -> str:
    return f"within {share * 100:.0f} %"


def times_less(results: Results, other: str, times: int, is_aim: bool = False) -> Verdict:
    """A sample costs so many times less CPU than the other tool."""
    ratio = cpu(results.must, other) / cpu(results.must, "steady")
    what = f"CPU of a sample against {SUBJECTS[other]}"
    bound = f"{'aim' if is_aim else '≤'} 1/{times}"
    value = f"1/{ratio:.3g}" if ratio > 1 else f"{1 / ratio:.1f} times as much"
    return Verdict(what, value, bound, ratio >= times, is_aim)


def first_sample(results: Results) -> Verdict:
    ratio = cpu(results.must, "cold") / cpu(results.must, "ss")
    what = f"CPU of the first sample against {SUBJECTS['ss']}"
    return Verdict(what, f"{ratio:.2f}", "≤ 0.6", ratio <= 0.6)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown, aligned so that it can be read as text too."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]

    def line(cells: list[str]) -> str:
        numbers = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *numbers]) + " |"

    first, *others = widths
    rule = f"|{'-' * (first + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in others)
    return "\n".join([line(heads), rule, *map(line, rows)]) + "\n"


def milliseconds(seconds: float) -> str:
    """Three digits are all that a repetition confirms."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def costs_table(costs: dict) -> str:
    heads = ["", "wall ms", "CPU ms", "peak MiB", "system calls", "measured"]
    rows = [
        [
            SUBJECTS[subject],
            milliseconds(cost["wall_seconds"]),
            milliseconds(cost["cpu_seconds"]),
            f"{cost['peak_bytes'] / MIB:.1f}",
            f"{cost['system_calls']:,}",
            f"{cost['times']}×",
        ]
        for subject, cost in costs.items()
    ]
    return table(heads, rows)


def growth_table(results: Results, size: str) -> str:
    points = results.growth(size)
    heads = ["CPU ms"] + [f"{point['size'][size]:,}" for point in points]
    rows = [
        [name] + [milliseconds(cpu(point, subject)) for point in points]
        for subject, name in SUBJECTS.items()
    ]
    rows.append(["system calls of a sample", *counts(points, "steady")])
    if has_floor(points):
        floor = [point["floor"] for point in points]
        seconds = [one["cpu_seconds"] for one in floor]
        times = [over_floor(point) for point in points]
        rows += [
            ["the floor", *map(milliseconds, seconds)],
            ["a sample, times the floor", *(f"{one:.1f}" for one in times)],
            [f"at most {FLOORS} times the floor", *("PASS" if one <= FLOORS else "MISSED" for one in times)],
            ["system calls of the floor", *(f"{one['system_calls']:,}" for one in floor)],
        ]
    return table(heads, rows)


def counts(points: list[dict], subject: str) -> list[str]:
    return [f"{point['costs'][subject]['system_calls']:,}" for point in points]


def described(size: dict, but: str = "") -> str:
    return ", ".join(f"{size[name]:,} {NAMES[name]}" for name in SIZES if name != but)


def extras_text(results: Results) -> str:
    extras = results.extras
    rates = extras["scrapes_per_second"]
    latency = [
        [
            name,
            *(f"{phase[value] * 1e3:.2f}" for value in ("p50", "p99", "worst")),
            f"{phase['scrapes']:,}",
        ]
        for name, phase in (
            ("during the first sample (503)", extras["latency"]["first_sample"]),
            ("later, sampling every 100 ms", extras["latency"]["later"]),
            ("at rest, for comparison", extras["latency"]["at_rest"]),
        )
    ]
    parts = [
        [
            part["name"],
            milliseconds(part["cpu_seconds"]),
            f"{part['bytes']:,}",
            f"{part['blocks']:,}",
        ]
        for part in extras["parts"]
    ]
    steady = results.must["costs"]["steady"]
    return "\n".join(
        [
            "Scrapes a second (wrk, 4 connections):\n",
            table(["", "scrapes/s"], [[name, f"{rate:,.1f}"] for name, rate in rates.items()]),
            "One scrape at a time while a fresh process samples:\n",
            table(["", "p50 ms", "p99 ms", "worst ms", "scrapes"], latency),
            "Where a sample's CPU time and allocations go (under a counting allocator):\n",
            table(["", "CPU ms", "bytes", "blocks"], parts),
            f"Resident after {steady['times']} samples: {memory(steady)}. The rest are pages of the program and its libraries.",
            *ways_text(results),
        ]
    )


def ways_text(results: Results) -> list[str]:
    ways = results.must.get("floor", {}).get("ways")
    if not ways:
        return []
    rows = [[name, f"{ways[way] * 1e6:.2f}"] for way, name in WAYS.items()]
    shared = results.extras.get("shared_tables", 0)
    return [
        "\nOther ways to ask (README.md says why each is used or not):\n",
        table(["one look", "CPU µs"], rows),
        f"Pairs of these HAProxys that share a table of descriptors: {shared}.",
    ]


def verdicts_table(results: Results) -> str:
    rows = [[v.what, v.value, v.bound, v.word] for v in verdicts(results)]
    return table(["", "measured", "has to be", ""], rows)


def text(results: Results) -> str:
    """All of it, as Markdown."""
    about = {**results.machine, **results.versions}
    parts = [
        "# What it costs\n",
        "Written by `benches/run`; [README.md](README.md) says how each figure is taken.\n",
        "\n".join(f"- {name}: {what}" for name, what in about.items()) + "\n",
        f"## At {described(results.must['size'])}\n",
        costs_table(results.must["costs"]),
        verdicts_table(results),
        extras_text(results) + "\n",
        "## How it grows\n",
        "![CPU time against processes, listeners, sockets and other processes](growth.svg)\n",
        "The floor is what a look at the host must ask of Linux: all processes once, the status of each HAProxy, the"
        " listening sockets, and the link of each of their descriptors. With more processes than listeners there are"
        " as many listeners as processes. README.md gives the reason for each MISSED.\n",
    ]
    for size in SIZES:
        fixed = described(results.growth(size)[0]["size"], but=size)
        parts += [f"By {NAMES[size]}, at {fixed}:\n", growth_table(results, size)]
    parts += [
        "## Beside a stale process that drains\n",
        f"At {described(results.must['size'])}; one of the daemons was reloaded, so the old process"
        " holds its connections, and their states are read from the table of all sockets.\n",
        costs_table(results.must["draining"]),
    ]
    return "\n".join(parts)


def write(results: Results, folder: Path) -> str:
    """Writes the report and the picture; gives the report."""
    report = text(results)
    (folder / "RESULTS.md").write_text(report)
    draw({size: results.growth(size) for size in SIZES}, folder / "growth.svg")
    return report
