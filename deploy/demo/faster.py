#!/usr/bin/env python3
"""Divides every duration of a rule file, or of a configuration of Prometheus or Alertmanager, by one number.

Usage: faster.py FACTOR <slow.yaml >fast.yaml

Nothing but durations changes: the values of KEYS, and the ranges [5m] and [1d:5m] of expressions. The result is
read back, and the step fails unless it is the same text around durations that are all smaller by the factor.
"""
import re
import sys

KEYS = (
    "for: ",
    "keep_firing_for: ",
    "group_wait: ",
    "group_interval: ",
    "repeat_interval: ",
    "resolve_timeout: ",
    "scrape_interval: ",
    "evaluation_interval: ",
)
UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}


def milliseconds(duration):
    """The length of 1h15m or 500ms; None when the text is no duration."""
    if re.fullmatch(r"\d+ms", duration):
        return int(duration[:-2])
    if not re.fullmatch(r"(\d+[dhms])+", duration):
        return None
    parts = re.findall(r"(\d+)([dhms])", duration)
    return sum(int(number) * UNITS[unit] for number, unit in parts) or None


def pieces(text):
    """The text, cut into what is kept (str) and durations in milliseconds (int)."""
    found = []
    for line in text.splitlines(keepends=True):
        bare = line.lstrip()
        if bare.startswith("#"):
            found.append(line)
            continue
        key = next((key for key in KEYS if bare.startswith(key)), None)
        if key:
            head = line[: len(line) - len(bare) + len(key)]
            value = line[len(head):].rstrip()
            length = milliseconds(value)
            if length is None:
                sys.exit(f"faster.py: {value!r} is no duration: {line.strip()}")
            found += [head, length]
            line = line[len(head) + len(value):]
        while "[" in line:
            before, _, after = line.partition("[")
            found.append(before + "[")
            line = after
            inside, closing, _ = after.partition("]")
            lengths = [milliseconds(part) for part in inside.split(":")] if closing else [None]
            if None in lengths:
                continue
            for place, length in enumerate(lengths):
                found += [":" if place else "", length]
            line = after[len(inside):]
        found.append(line)
    return found


def merged(found):
    """The pieces, with neighbouring texts as one."""
    result = [""]
    for piece in found:
        if isinstance(piece, int):
            result += [piece, ""]
        else:
            result[-1] += piece
    return result


def faster(text, factor):
    """The text with durations that are smaller by the factor."""
    slow = merged(pieces(text))
    odd = [piece for piece in slow if isinstance(piece, int) and piece % factor]
    if odd:
        sys.exit(f"faster.py: {odd[0]} ms cannot be divided by {factor}")
    fast = "".join(f"{p // factor}ms" if isinstance(p, int) else p for p in slow)
    again = [p * factor if isinstance(p, int) else p for p in merged(pieces(fast))]
    if again != slow:
        sys.exit("faster.py: something other than a duration has changed")
    return fast


if __name__ == "__main__":
    sys.stdout.write(faster(sys.stdin.read(), int(sys.argv[1])))
