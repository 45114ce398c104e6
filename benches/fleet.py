"""Measures what a fleet costs a real Prometheus with the shipped rules: series, churn, memory, bytes a
sample, rules and queries of the dashboards. `benches/run fleet` calls it; README.md says how each figure is taken.
"""

import json
import os
import pathlib
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


# A board of a thousand hosts on which each query takes longer is not looked at.
QUERY_BOUND_SECONDS = 1
# Grafana draws six hours on a wide panel as so many points.
POINTS = 720


def cpu_seconds(pid):
    """What the process has used of processors, of threads that have ended too (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def query_times(prometheus, pid, since, end):
    """Seconds of CPU and of wall time that each query takes, the least of three, because other work can only make
    one slower: as many points as Grafana would ask for, of the time that was measured."""
    times = []
    for board, panel, expression, instant in expressions():
        query = filled_in(expression, board)
        taken = []
        series = 0
        for _ in range(3):
            begun, cpu = time.monotonic(), cpu_seconds(pid)
            if instant:
                answer = prometheus.api("query", query=query, time=end)
            else:
                step = (end - since) / POINTS
                answer = prometheus.api("query_range", query=query, start=since, end=end, step=step)
            taken.append((cpu_seconds(pid) - cpu, time.monotonic() - begun))
            series = len(answer["result"])
        cpus, walls = zip(*taken)
        times.append((min(cpus), min(walls), board, panel, series))
    return sorted(times, reverse=True)


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
            # No scrape and no rule any more, so that what Prometheus uses is the query's.
            end = time.time()
            (directory / "prometheus.yml").write_text("{}")
            child.send_signal(signal.SIGHUP)
            while client.api("targets")["activeTargets"] or client.api("rules")["groups"]:
                time.sleep(1)
            result["queries"] = query_times(client, child.pid, since, end)
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
    for haproxys, ports in [(1, 0), (1, 1), (1, 50), (1, 200), (10, 50), (50, 10)]:
        flags = {"--hosts": 1, "--haproxys": haproxys, "--ports": ports, "--faulty-every": 0}
        with Process([server, *sizes(flags)], stdout=subprocess.PIPE, text=True) as fleet:
            address = fleet.stdout.readline().strip()
            page = get(f"http://{address}/hosts/0/metrics")
        lines = [line for line in page.splitlines() if line and not line.startswith("#")]
        rows.append({"haproxys": haproxys, "ports": ports, "series": len(lines), "bytes": len(page)})
    return rows


def report(results):
    lines = ["# A fleet", "", "*Written by `benches/run fleet`; README.md says how each figure is taken.*", "",
             f"Machine: {results['machine']}, load average at the start {results['load']}.", ""]
    header = ["hosts", "series", "a host", "new series an hour", "samples/s", "CPU", "memory", "a series",
              "slowest rule group", "all groups", "costliest query"]
    lines.append("| " + " | ".join(header) + " |")
    lines.append("|" + "---|" * len(header))
    for run in results["runs"]:
        groups, queries = run["rules"], run["queries"]
        cells = [
            f"{run['hosts']:,}",
            f"{run['series']:,.0f}",
            f"{run['series_a_host']:.0f}",
            f"{run['churn_an_hour']:,.0f}",
            f"{run['samples_a_second']:,.0f}",
            f"{run['cpu_share']:.2f}",
            f"{run['memory_bytes'] / 2**20:,.0f} MiB",
            f"{run['memory_bytes'] / run['series']:,.0f} B",
            f"{groups[0][1]} {groups[0][0]:.3f} s",
            f"{sum(seconds for seconds, _ in groups):.3f} s",
            f"{queries[0][3]} {queries[0][0]:.2f} s",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if len(results["runs"]) > 1:
        one, other = results["runs"][0], results["runs"][-1]
        slope = lambda key: (other[key] - one[key]) / (other["hosts"] - one["hosts"])
        many = 100_000
        lines += ["", f"From the slope, on paper: {many:,} hosts are {slope('series') * many:,.0f} series, "
                  f"{slope('samples_a_second') * many:,.0f} samples a second and "
                  f"{slope('memory_bytes') * many / 2**30:,.0f} GiB of memory."]
    disk = results["disk"]
    lines += ["", f"On disk {disk['bytes'] / disk['samples']:.2f} bytes a sample, index included "
              f"({disk['samples']:,} samples of {disk['hosts']} hosts over {disk['hours']} h)."]
    lines += ["", "| ports each | HAProxys | series | page |", "|---|---|---|---|"]
    for row in results["budget"]:
        lines.append(f"| {row['ports']} | {row['haproxys']} | {row['series']:,} | {row['bytes'] / 1024:.0f} KiB |")
    last = results["runs"][-1]
    lines += ["", f"Queries of the boards at {last['hosts']:,} hosts: the costliest of each panel.", "",
              "| board | panel | series | CPU s | wall s |", "|---|---|---|---|---|"]
    told = set()
    for cpu, wall, board, panel, series in last["queries"]:
        if (board, panel) not in told:
            told.add((board, panel))
            lines.append(f"| {board} | {panel} | {series} | {cpu:.3f} | {wall:.3f} |")
    lines += ["", f"{verdict(last)}: every query of the boards takes less than {QUERY_BOUND_SECONDS} s of CPU."]
    return "\n".join(lines) + "\n"


def verdict(run):
    return "PASS" if run["queries"][0][0] < QUERY_BOUND_SECONDS else "FAIL"


def main():
    server, prometheus, promtool, destination, minutes, *numbers = sys.argv[1:]
    cores = os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    version = subprocess.run([prometheus, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    results = {
        "machine": f"{cores} cores, {memory:.0f} GiB, Linux {os.uname().release}, Prometheus {version}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "budget": budget(server),
        "disk": bytes_a_sample(server, promtool, 4, 4),
        "runs": [],
    }
    flags = {"--haproxys": 1, "--ports": 50, "--faulty-every": int(os.environ.get("FLEET_FAULTY_EVERY", 20))}
    for hosts in map(int, numbers):
        print(f"==> {hosts} hosts", flush=True)
        results["runs"].append(measure(server, prometheus, hosts, float(minutes), dict(flags)))
    text = report(results)
    (pathlib.Path(destination) / "FLEET.md").write_text(text)
    print(text)
    sys.exit(verdict(results["runs"][-1]) != "PASS")


if __name__ == "__main__":
    main()
