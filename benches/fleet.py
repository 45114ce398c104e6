"""Measures what a fleet costs a real Prometheus with the shipped rules: series, churn, memory, bytes a
sample, rules and queries of the dashboards. `benches/run fleet` calls it; README.md says how each figure is taken.
"""

import concurrent.futures
import json
import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
JOB = "haproxy-host-exporter"
DROPPED = "haproxy_host_series_dropped{"
# Hosts of the row that is not measured.
MANY = 100_000
# Of a fault that never fires, the figures would be those of another fleet.
PATIENCE_SECONDS = 300


def get(url):
    with urllib.request.urlopen(url, timeout=600) as answer:
        return answer.read().decode()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A program that ends with the block that started it."""

    def __init__(self, command, **options):
        self.child = subprocess.Popen(command, **options)

    def __enter__(self):
        return self.child

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()


def sizes(flags):
    return [str(word) for pair in flags.items() for word in pair]


def prometheus_configuration(directory, address, hosts):
    targets = [
        {
            "targets": [address],
            "labels": {
                "__metrics_path__": f"/hosts/{number}/metrics",
                "instance": f"lb{number}",
                "cluster": f"eu{number % 4 + 1}",
            },
        }
        for number in range(hosts)
    ]
    (directory / "targets.json").write_text(json.dumps(targets))
    rules = [str(path) for path in sorted(ROOT.glob("alerts/*.rules.yaml"))]
    configuration = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": rules,
        "scrape_configs": [
            {"job_name": JOB, "file_sd_configs": [{"files": [str(directory / "targets.json")]}]}
        ],
    }
    path = directory / "prometheus.yml"
    path.write_text(json.dumps(configuration))  # JSON is YAML
    return path


class Prometheus:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"

    def is_ready(self):
        try:
            return get(self.base + "/-/ready") is not None
        except OSError:
            return False

    def api(self, path, **parameters):
        url = f"{self.base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        return json.loads(get(url))["data"]

    def value(self, query):
        result = self.api("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def own(self, name):
        text = get(self.base + "/metrics")
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0


def expressions():
    """The queries of the two boards: (board, panel, expression, instant)."""

    def panels(board):
        for panel in board:
            yield panel
            yield from panels(panel.get("panels", []))

    for name in ("fleet", "host"):
        board = json.loads((ROOT / f"dashboards/{name}.json").read_text())
        for panel in panels(board["panels"]):
            for target in panel.get("targets", []):
                yield name, panel["title"], target["expr"], bool(target.get("instant"))


def filled_in(expression, board):
    """With the variables as Grafana fills them in: all hosts on the fleet's board, one on the host's."""
    values = {
        "job": JOB,
        "cluster": ".*",
        "instance": ".+" if board == "fleet" else "lb1",
        "haproxy": ".+",
        "kind": ".+",
        "__rate_interval": "1m",
        "__range": "6h",
    }
    return re.sub(r"\$([a-z_]\w*)", lambda found: values[found.group(1)], expression)


# A board of a thousand hosts on which a query takes longer is not looked at.
QUERY_BOUND_SECONDS = 1
# Grafana draws six hours on a wide panel as so many points.
POINTS = 720
# A browser has so many requests to one server under way.
REQUESTS_AT_ONCE = 6


def asked(prometheus, expression, board, instant, since, end):
    """Asks as Grafana does, with as many points, of the time that was measured; wall seconds and series."""
    query = filled_in(expression, board)
    begun = time.monotonic()
    if instant:
        answer = prometheus.api("query", query=query, time=end)
    else:
        answer = prometheus.api("query_range", query=query, start=since, end=end, step=(end - since) / POINTS)
    return time.monotonic() - begun, len(answer["result"])


def query_times(prometheus, since, end):
    """What each query takes while Prometheus scrapes and evaluates: the median and the longest of three, in seconds."""
    times = []
    for board, panel, expression, instant in expressions():
        taken = [asked(prometheus, expression, board, instant, since, end) for _ in range(3)]
        walls = sorted(wall for wall, _ in taken)
        times.append((walls[1], walls[2], board, panel, taken[0][1]))
    return sorted(times, reverse=True)


def board_times(prometheus, since, end):
    """What opening each board takes: all its queries, a few at once."""
    times = {}
    for name in ("fleet", "host"):
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            queries = [(board, text, instant) for board, _, text, instant in expressions() if board == name]
            list(pool.map(lambda one: asked(prometheus, one[1], one[0], one[2], since, end), queries))
        times[name] = (time.monotonic() - begun, len(queries))
    return times


def rule_times(prometheus):
    groups = prometheus.api("rules")["groups"]
    unhealthy = [r["name"] for g in groups for r in g["rules"] if r["health"] not in ("ok", "unknown")]
    if unhealthy:
        sys.exit(f"rules that fail: {unhealthy}")
    return sorted(((g["evaluationTime"], g["name"]) for g in groups), reverse=True)


def await_fleet(prometheus, address, hosts, faulty):
    """Waits until every host is scraped and every fault fires."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if prometheus.is_ready():
            census = json.loads(get(f"http://{address}/census"))
            missing = [kind for kind, number in census.items() if number == 0]
            if prometheus.value("sum(up)") == hosts and len(census) - len(missing) >= min(faulty, len(census)):
                return census
        time.sleep(1)
    sys.exit(f"after {PATIENCE_SECONDS} s not every host is scraped, or no host shows {missing}")


def measure(server, prometheus, hosts, minutes, flags):
    flags = {"--hosts": hosts, **flags}
    with tempfile.TemporaryDirectory() as name, Process(
        [server, *sizes(flags)], stdout=subprocess.PIPE, text=True
    ) as fleet:
        directory = pathlib.Path(name)
        address = fleet.stdout.readline().strip()
        port = free_port()
        command = [
            prometheus,
            f"--config.file={prometheus_configuration(directory, address, hosts)}",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with open(directory / "log", "w", encoding="utf-8") as log, Process(
            command, stdout=log, stderr=log
        ) as child:
            client = Prometheus(port)
            # One faulty host shows one kind, so there have to be enough of them to show all.
            every = flags["--faulty-every"]
            faulty = -(-hosts // every) if every else 0
            census = await_fleet(client, address, hosts, faulty)
            since = time.time()
            created = client.own("prometheus_tsdb_head_series_created_total")
            appended = client.own("prometheus_tsdb_head_samples_appended_total{type=\"float\"}")
            cpu = client.own("process_cpu_seconds_total")
            time.sleep(minutes * 60)
            seconds = time.time() - since
            result = {
                "hosts": hosts,
                "haproxys": flags["--haproxys"],
                "ports": flags["--ports"],
                "faulty_every": every,
                "seconds": seconds,
                "census": census,
                "series": client.own("prometheus_tsdb_head_series"),
                "series_a_host": client.value("avg(scrape_samples_scraped)"),
                "churn_an_hour": (client.own("prometheus_tsdb_head_series_created_total") - created)
                / seconds
                * 3600,
                "samples_a_second": (
                    client.own("prometheus_tsdb_head_samples_appended_total{type=\"float\"}") - appended
                )
                / seconds,
                "cpu_share": (client.own("process_cpu_seconds_total") - cpu) / seconds,
                "rules": rule_times(client),
                "scrape_seconds": client.value("max(scrape_duration_seconds)"),
            }
            result["memory_bytes"] = resident(child.pid)
            end = time.time()
            result["queries"] = query_times(client, since, end)
            result["boards"] = board_times(client, since, end)
            return result


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024


def bytes_a_sample(server, promtool, hosts, hours):
    """Of blocks as Prometheus keeps them for months, made of what it would have scraped."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        with open(directory / "history", "w", encoding="utf-8") as history:
            flags = {"--hosts": hosts, "--history": hours * 3600}
            subprocess.run([server, *sizes(flags)], stdout=history, check=True)
        command = [promtool, "tsdb", "create-blocks-from", "openmetrics", f"{directory}/history", f"{directory}/data"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        samples = series = size = 0
        for block in (directory / "data").iterdir():
            meta = json.loads((block / "meta.json").read_text())
            samples += meta["stats"]["numSamples"]
            series = max(series, meta["stats"]["numSeries"])
            size += sum(path.stat().st_size for path in block.rglob("*") if path.is_file())
        return {"hosts": hosts, "hours": hours, "samples": samples, "series": series, "bytes": size}


def budget(server):
    """Series of a healthy host by HAProxys and ports, from one page of each."""
    rows = []
    for haproxys, ports in [(1, 0), (1, 50), (1, 200), (1, 500), (10, 50), (50, 10), (50, 50), (50, 500)]:
        flags = {"--hosts": 1, "--haproxys": haproxys, "--ports": ports, "--faulty-every": 0}
        with Process([server, *sizes(flags)], stdout=subprocess.PIPE, text=True) as fleet:
            address = fleet.stdout.readline().strip()
            page = get(f"http://{address}/hosts/0/metrics")
        lines = [line for line in page.splitlines() if line and not line.startswith("#")]
        dropped = sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(DROPPED))
        rows.append({"haproxys": haproxys, "ports": ports, "series": len(lines), "bytes": len(page),
                     "dropped": int(dropped)})
    return rows


def revision(server):
    """Of the exporter's code that the simulated hosts are made of, as their pages say."""
    with Process([server, *sizes({"--hosts": 1})], stdout=subprocess.PIPE, text=True) as fleet:
        page = get(f"http://{fleet.stdout.readline().strip()}/hosts/0/metrics")
    labels = re.search(r"^haproxy_host_exporter_build_info\{(.*)\}", page, re.MULTILINE).group(1)
    told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    return f"{told['version']} (revision {told['revision']})"


def machine(exporter):
    """What the figures were measured on."""
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "CPU": f"{cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"Linux {os.uname().release}",
        "haproxy-host-exporter": exporter,
    }


def version(program):
    """The version that a program of Prometheus' family prints first."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return (told.stdout + told.stderr).split("version ", 1)[1].split()[0].rstrip(",")


def load_average():
    return f"{os.getloadavg()[0]:.1f}"


def block(name, text):
    """What docs/fleet.md has word for word, between marks by which it is found."""
    return f"<!-- figures: {name} -->\n{text}\n<!-- end -->"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def costs(results):
    """What Prometheus needs for each number of hosts, measured and from the slope."""
    lines = [row(["hosts", "series", "new series an hour", "samples a second", "CPU of one core", "memory",
                  "all rule groups"]), "|" + "---|" * 7]
    keys = ["series", "churn_an_hour", "samples_a_second", "cpu_share", "memory_bytes", "rule_seconds"]
    for run in results["runs"]:
        run["rule_seconds"] = sum(seconds for seconds, _ in run["rules"])
        lines.append(row([f"{run['hosts']:,}", f"{run['series']:,.0f}", f"{run['churn_an_hour']:,.0f}",
                          f"{run['samples_a_second']:,.0f}", f"{run['cpu_share'] * 100:.0f} %",
                          f"{run['memory_bytes'] / 2**20:,.0f} MiB", f"{run['rule_seconds']:.1f} s"]))
    if len(results["runs"]) > 1:
        one, other = results["runs"][0], results["runs"][-1]
        slope = {key: (other[key] - one[key]) / (other["hosts"] - one["hosts"]) * MANY for key in keys}
        lines.append(row([f"{MANY:,}, on paper", f"{slope['series'] / 1e6:,.0f} million",
                          f"{slope['churn_an_hour'] / 1e6:,.0f} million",
                          f"{slope['samples_a_second'] / 1e6:,.1f} million",
                          f"{slope['cpu_share'] * 100:,.0f} %", f"at least {slope['memory_bytes'] / 2**30:,.0f} GiB",
                          f"{slope['rule_seconds']:,.0f} s"]))
    last = results["runs"][-1]
    slowest = last["queries"][0]
    each = last["memory_bytes"] / last["series"]
    of_500 = next(one["series"] for one in results["budget"] if (one["haproxys"], one["ports"]) == (1, 500))
    disk = results["disk"]
    return "\n".join(lines + [
        "",
        f"A series takes {each / 1000:.1f} KB of memory at {last['hosts']:,} hosts, and a sample "
        f"{disk['bytes'] / disk['samples']:.2f} bytes on disk, its share of the index included. Rules are evaluated every",
        f"15 s. At {last['hosts']:,} hosts the slowest query of a board takes {slowest[0]:.2f} s ({slowest[2]} board, "
        f"\"{slowest[3]}\"), and opening the",
        f"fleet board {last['boards']['fleet'][0]:.1f} s, while Prometheus scrapes and evaluates.",
        "",
        f"So the default caps stay: a HAProxy with 500 ports takes {each * of_500 / 2**20:.0f} MiB of this memory, and a page of "
        f"20,000 series {each * 20_000 / 2**20:.0f} MiB.",
    ])


def pages(results):
    lines = [row(["HAProxys", "ports each", "series", "dropped", "page"]), "|" + "---|" * 5]
    for one in results["budget"]:
        lines.append(row([str(one["haproxys"]), str(one["ports"]), f"{one['series']:,}", f"{one['dropped']:,}",
                          f"{one['bytes'] / 1024:,.0f} KiB"]))
    return "\n".join(lines)


def conditions(results):
    about = "; ".join(f"{name}: {what}" for name, what in results["machine"].items())
    return (f"{about}; Prometheus: {results['prometheus']}; load average {results['load']} at the start and "
            f"{results['load_after']} at the end; {results['minutes']:g} minutes for each number of hosts.")


def report(results):
    lines = ["# A fleet", "", "*Written by `benches/run fleet`; README.md says how each figure is taken.*", "",
             block("conditions", conditions(results)), "",
             "The simulated hosts, Prometheus and the queries share this machine.", "",
             "## Pages", "", block("pages", pages(results)), "", "## Prometheus", "",
             block("costs", costs(results)), "",
             "\"On paper\" is the slope between the first and the last row. Its memory is a lower bound: that of Prometheus'",
             f"head after {results['minutes']:g} minutes, in which it holds up to three hours of samples later.", "",
             "| hosts | series a host | slowest rule group | slowest query, median of three | the fleet board | the host "
             "board |", "|---|---|---|---|---|---|"]
    for run in results["runs"]:
        slowest, group = run["queries"][0], run["rules"][0]
        lines.append(row([f"{run['hosts']:,}", f"{run['series_a_host']:.0f}", f"{group[1]} {group[0]:.3f} s",
                          f"{slowest[3]} {slowest[0]:.2f} s",
                          *(f"{run['boards'][board][0]:.2f} s" for board in ("fleet", "host"))]))
    disk, last = results["disk"], results["runs"][-1]
    lines += ["", f"On disk: {disk['samples']:,} samples of {disk['hosts']} hosts over {disk['hours']} h in "
              f"{disk['bytes']:,} bytes.", "", "## Queries", "",
              f"Of both boards at {last['hosts']:,} hosts, one at a time: the slowest of each panel, in seconds of wall time. "
              f"Prometheus went on to scrape all hosts and to evaluate all rules every 15 s.", "",
              "| board | panel | series | median of three | longest |", "|---|---|---|---|---|"]
    told = set()
    for median, longest, board, panel, series in last["queries"]:
        if (board, panel) not in told:
            told.add((board, panel))
            lines.append(row([board, panel, str(series), f"{median:.3f}", f"{longest:.3f}"]))
    lines += ["", f"{verdict(last)}: every query of the boards takes less than {QUERY_BOUND_SECONDS} s of wall time "
              "(median of three)."]
    return "\n".join(lines) + "\n"


def verdict(run):
    return "PASS" if run["queries"][0][0] < QUERY_BOUND_SECONDS else "FAIL"


def copy_figures(written, page):
    """Puts the blocks of a file of results where the page has those of the same name."""
    text = page.read_text()
    for whole, name in re.findall(r"(<!-- figures: (\S+) -->\n.*?\n<!-- end -->)", written, re.DOTALL):
        # Until the next mark, which is its own end.
        place = rf"<!-- figures: {re.escape(name)} -->\n(?:(?!<!-- ).*\n)*<!-- end -->"
        text, times = re.subn(place, lambda _, whole=whole: whole, text)
        if times != 1:
            sys.exit(f"{page} has {times} places for the figures {name!r}")
    page.write_text(text)


def main():
    server, prometheus, promtool, destination, minutes, *numbers = sys.argv[1:]
    results = {
        "machine": machine(revision(server)),
        "prometheus": version(prometheus),
        "load": load_average(),
        "minutes": float(minutes),
        "budget": budget(server),
        "disk": bytes_a_sample(server, promtool, 4, 4),
        "runs": [],
    }
    flags = {"--haproxys": 1, "--ports": 50, "--faulty-every": int(os.environ.get("FLEET_FAULTY_EVERY", 20))}
    for hosts in map(int, numbers):
        print(f"==> {hosts} hosts", flush=True)
        results["runs"].append(measure(server, prometheus, hosts, float(minutes), dict(flags)))
    results["load_after"] = load_average()
    text = report(results)
    folder = pathlib.Path(destination)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "FLEET.md").write_text(text)
    if folder == ROOT / "benches":
        copy_figures(text, ROOT / "docs/fleet.md")
    print(text)
    sys.exit(verdict(results["runs"][-1]) != "PASS")


if __name__ == "__main__":
    main()
