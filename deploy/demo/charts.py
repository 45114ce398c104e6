#!/usr/bin/env python3
"""Draws panels of a dashboard as small text charts, with the panel's own queries asked of a Prometheus.

Usage: charts.py PROMETHEUS_URL DASHBOARD.json SECONDS TITLE...
"""
import json
import re
import sys
import time
import urllib.parse
import urllib.request

BLOCKS = " ▁▂▃▄▅▆▇█"
COLUMNS = 48
NAME = 26


def panels(items):
    for item in items:
        yield item
        yield from panels(item.get("panels", []))


def ask(url, expression, seconds):
    """The series of an expression: their labels, and one value or None for each column."""
    end = time.time()
    step = seconds / COLUMNS
    start = end - step * (COLUMNS - 1)
    form = {"query": expression, "start": start, "end": end, "step": step}
    query = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query_range", query, timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    for series in result:
        values = [None] * COLUMNS
        for at, value in series["values"]:
            column = round((at - start) / step)
            if 0 <= column < COLUMNS:
                values[column] = float(value)
        yield series["metric"], values


def filled_in(expression, seconds):
    """Replaces the variables of the dashboard: all instances, all services."""
    expression = expression.replace("$__rate_interval", "10s").replace("$__range", f"{int(seconds)}s")
    return re.sub(r"\$(cluster|job|instance|haproxy)\b", ".*", expression)


def chart(values):
    top = max((value for value in values if value is not None), default=0) or 1
    steps = len(BLOCKS) - 1
    # A value above 0 has at least the lowest block, so that 0 and little can be told apart.
    return "".join(
        "·" if value is None else BLOCKS[max(value > 0, round(steps * max(value, 0) / top))] for value in values
    )


def legend(template, labels):
    if not template or template == "__auto":
        return ", ".join(value for name, value in labels.items() if name != "__name__") or "value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template)


def main():
    url, path, seconds, titles = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]
    with open(path, encoding="utf-8") as file:
        by_title = {panel.get("title"): panel for panel in panels(json.load(file)["panels"])}
    for title in titles:
        if title not in by_title:
            sys.exit(f"charts.py: {path} has no panel {title!r}")
        print(f"  {title}")
        for target in by_title[title]["targets"]:
            for labels, values in ask(url, filled_in(target["expr"], seconds), seconds):
                known = [value for value in values if value is not None]
                if known and (max(known) > 0 or target.get("legendFormat") is None):
                    name = legend(target.get("legendFormat"), labels)[:NAME]
                    print(f"    {name:{NAME}} │{chart(values)}│ now {known[-1]:g}, most {max(known):g}")
    print(f"  the last {int(seconds)} s, from left to right; · is no data")


if __name__ == "__main__":
    main()
