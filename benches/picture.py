"""Draws how the costs grow."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot, ticker  # noqa: E402  # after the choice of what draws

# Okabe and Ito's colours, which colour-blind people tell apart; ours are thick. (name, colour,
# marker, line)
STYLES = {
    "steady": ("haproxy-host-exporter, a sample", "#D55E00", "o", "-"),
    "floor": ("what Linux takes for it at least", "#555555", "x", "--"),
    "cold": ("its first sample", "#D55E00", "o", ":"),
    "ss": ("ss -tlnp", "#0072B2", "s", "-"),
    "lsof": ("lsof -iTCP", "#56B4E9", "^", "-"),
    "process-exporter": ("process-exporter, a scrape", "#009E73", "D", "-"),
    "node-exporter": ("node-exporter, a scrape", "#CC79A7", "v", "-"),
}
LABELS = {
    "processes": "HAProxy processes",
    "listeners": "listeners",
    "sockets": "sockets on the host",
    "others": "other processes",
}


def draw(growth: dict[str, list[dict]], file: Path) -> None:
    """One panel for each size; the same axis of CPU time for all."""
    # The same results give the same bytes.
    matplotlib.rcParams.update({"svg.hashsalt": "growth", "font.size": 9})
    figure, panels = pyplot.subplots(1, len(growth), sharey=True, figsize=(12, 4.4))
    # Opaque, so that it can be read on a dark page as on a light one.
    figure.set_facecolor("white")
    for panel, (size, points) in zip(panels, growth.items()):
        draw_panel(panel, size, points)
    panels[0].set_ylabel("CPU time, milliseconds (log scale)")
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="upper center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.87))
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def cost(point: dict, subject: str) -> float:
    """Milliseconds of CPU."""
    of = point["floor"] if subject == "floor" else point["costs"][subject]
    return of["cpu_seconds"] * 1e3


def draw_panel(panel, size: str, points: list[dict]) -> None:
    sizes = [point["size"][size] for point in points]
    for subject, (name, colour, marker, line) in STYLES.items():
        if subject == "floor" and not all("floor" in point for point in points):
            continue
        costs = [cost(point, subject) for point in points]
        width = 2.5 if subject == "steady" else 1.3
        panel.plot(sizes, costs, line, color=colour, marker=marker, label=name, lw=width, ms=5)
    panel.set_yscale("log")
    panel.set_xlabel(LABELS[size])
    if 0 not in sizes:
        panel.set_xscale("log")
        panel.set_xlabel(f"{LABELS[size]} (log scale)")
    panel.set_xticks([0, 60_000, 120_000, 180_000] if 180_000 in sizes else sizes)
    panel.xaxis.set_minor_locator(ticker.NullLocator())
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    fixed = [f"{points[0]['size'][name]:,} {name}" for name in LABELS if name != size]
    panel.set_title(f"at {', '.join(fixed)}", fontsize=7)
    panel.grid(visible=True, which="major", color="#dddddd", lw=0.6)
    panel.spines[["top", "right"]].set_visible(False)
