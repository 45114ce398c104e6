"""Shows the fleet on more than one Prometheus: what is shared stays whole, and what is killed loses nothing
that a user would miss. `benches/run beyond` calls it; docs/fleet.md has the configurations as a user needs them.

Each part ends with what was seen, or the whole with the first thing that is not as promised. When all parts were run,
what was seen is written to BEYOND.md, and to docs/fleet.md.
"""

import http.server
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import fleet

HOSTS = 200
INTERVAL = 15
# Longer than any queue in memory holds what comes meanwhile, and shorter than keep_firing_for.
OUTAGE_SECONDS = 75
PATIENCE_SECONDS = 180
ROLLOUT = 300
# A rollout of ten seconds is seen by samples each 5 s, scrapes each 15 s, and evaluations each 15 s.
ROLLOUT_SECONDS = 45
# HAProxyGone is about pods that come and go by themselves, and short ones are short.
QUIET = {"HAProxyGone", "HAProxyAnomalyShortLived"}


def fail(what):
    sys.exit(f"beyond: {what}")


def await_true(what, condition):
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(1)
    fail(f"after {PATIENCE_SECONDS} s still not: {what}")


class Program(fleet.Process):
    """A server with a port of its own on the loopback and a log in the directory."""

    def __init__(self, directory, name, command):
        self.log = open(directory / f"{name}.log", "a", encoding="utf-8")
        super().__init__(command, stdout=self.log, stderr=self.log)

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.log.close()


def scrape_configuration(directory, relabel=None):
    job = {"job_name": fleet.JOB, "file_sd_configs": [{"files": [str(directory / "targets.json")]}]}
    if relabel:
        job["relabel_configs"] = relabel
    interval = f"{INTERVAL}s"
    return {"global": {"scrape_interval": interval}, "scrape_configs": [job]}


def written(path, value):
    path.write_text(json.dumps(value))  # JSON is YAML
    return path


def metric(port, prefix):
    """The sum of the series whose lines begin so."""
    lines = fleet.get(f"http://127.0.0.1:{port}/metrics").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(prefix))


def targets_up(port):
    targets = fleet.Prometheus(port).api("targets")["activeTargets"]
    return sum(target["health"] == "up" for target in targets)


def shares_of(who, ports):
    """How many targets each of two agents scrapes; together they scrape each host once."""
    shares = [targets_up(port) for port in ports]
    print(f"targets of the two {who}: {shares[0]} and {shares[1]}")
    if sum(shares) != HOSTS or min(shares) < HOSTS / 4:
        fail("the targets are not shared")
    return shares


def kill_for_a_while(killed):
    killed.child.kill()
    killed.child.wait()
    time.sleep(OUTAGE_SECONDS)


def fewest_samples(client, seconds):
    """Of the hosts, the fewest scrapes that are stored for so many seconds up to now, and how many hosts."""
    result = client.api("query", query=f'count_over_time(up{{job="{fleet.JOB}"}}[{seconds}s])')["result"]
    return min((int(float(series["value"][1])) for series in result), default=0), len(result)


def assert_whole(who, client, since):
    # Until the last scrape, and what VictoriaMetrics keeps from queries for 30 s, has arrived.
    time.sleep(INTERVAL + 30)
    seconds = round(time.time() - since)
    fewest, hosts = fewest_samples(client, seconds)
    # One is at the edge of the range, one may have been written and not yet synced when it was killed, and two
    # are too young to be shown.
    wanted = seconds // INTERVAL - 4
    seen = f"{fewest} of {seconds // INTERVAL} scrapes of each host at least"
    print(f"{who}: {hosts} hosts, {seen}")
    if hosts != HOSTS or fewest < wanted:
        fail(f"{who} has {hosts} hosts and {fewest} scrapes of one, not {HOSTS} and {wanted}")
    return seen


def active(notifier):
    """The alerts that Alertmanager has, but for the quiet ones: the labels of each."""
    alerts = json.loads(fleet.get(f"http://127.0.0.1:{notifier}/api/v2/alerts"))
    return labels_of(alerts)


def labels_of(alerts):
    return {tuple(sorted(a["labels"].items())) for a in alerts if a["labels"]["alertname"] not in QUIET}


def named(alerts):
    return sorted({dict(labels)["alertname"] for labels in alerts})


def await_alerts(notifier):
    """Waits until there are some, and no more of them come for a minute."""
    await_true("alerts are at Alertmanager", lambda: len(active(notifier)) >= 10)
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        before = active(notifier)
        time.sleep(60)
        if active(notifier) == before:
            break
    return active(notifier)


class Missing:
    """The alerts that were not active at some moment, looked for again and again until the end of the block."""

    def __init__(self, notifier, wanted):
        self.notifier, self.wanted, self.missed = notifier, wanted, set()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self):
        while not self.over.wait(2):
            self.missed |= self.wanted - active(self.notifier)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Pager(http.server.BaseHTTPRequestHandler):
    """Takes the notifications of Alertmanager."""

    notifications = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.notifications.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def alertmanager(directory, binary, pager):
    """The shipped configuration; only its receivers all lead to the pager."""
    text = (fleet.ROOT / "deploy/alertmanager/alertmanager.yaml").read_text()
    head = text[: text.index("\nreceivers:")]
    template = fleet.ROOT / "deploy/alertmanager/haproxy.tmpl"
    head = head.replace("haproxy.tmpl", str(template))
    names = ["webhook", "mail", "chat"]
    url = f"http://127.0.0.1:{pager}"
    receivers = [{"name": n, "webhook_configs": [{"url": f"{url}/{n}", "max_alerts": 0}]} for n in names]
    path = directory / "alertmanager.yml"
    path.write_text(f"{head}\nreceivers: {json.dumps(receivers)}\n")
    port = fleet.free_port()
    command = [binary, f"--config.file={path}", f"--storage.path={directory}/alertmanager",
               f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    return port, Program(directory, "alertmanager", command)


def post(port, alerts):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v2/alerts",
        data=json.dumps(alerts).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).read()


def one_rollout_is_one_notification(binary):
    """A bad configuration reaches 300 hosts within ten seconds: each has two alerts, and they come as they are seen."""
    pager = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pager)
    threading.Thread(target=pager.serve_forever, daemon=True).start()
    # The same each time.
    moment = random.Random(1).uniform
    with tempfile.TemporaryDirectory() as name:
        port, program = alertmanager(pathlib.Path(name), binary, pager.server_port)
        with program:
            await_true("Alertmanager is ready", lambda: fleet.get(f"http://127.0.0.1:{port}/-/ready"))
            coming = []
            for host in range(ROLLOUT):
                for alert, severity in [("HAProxyPortBlocked", "critical"), ("HAProxyReloadFailed", "warning")]:
                    labels = {"alertname": alert, "severity": severity, "cluster": "eu1",
                              "haproxy": "lbagent", "job": fleet.JOB, "instance": f"lb{host}"}
                    at = moment(0, ROLLOUT_SECONDS)
                    coming.append((at, {"labels": labels, "annotations": {"summary": "x"}}))
            begun = time.monotonic()
            while coming:
                now = time.monotonic() - begun
                due = [alert for at, alert in coming if at <= now]
                coming = [one for one in coming if one[0] > now]
                if due:
                    post(port, due)
                time.sleep(1)
            spread = time.monotonic() - begun
            await_true("a notification", lambda: Pager.notifications)
            # group_interval of the critical route: a second notification would come by then.
            time.sleep(70)
    pager.shutdown()
    told = [(len(body["alerts"]), body["receiver"]) for body in Pager.notifications]
    print(f"{2 * ROLLOUT} alerts of a rollout on {ROLLOUT} hosts: {len(told)} notification(s), {told}")
    if told != [(ROLLOUT, "webhook")]:
        fail("a rollout is not one notification with all its hosts")
    return (f"one bad rollout | {2 * ROLLOUT} alerts of {ROLLOUT} hosts, spread over {spread:.0f} s, are one notification, "
            f"which lists {ROLLOUT}")


def serving(directory, server, hosts):
    flags = {"--hosts": hosts, "--haproxys": 1, "--ports": 50, "--faulty-every": 10}
    process = fleet.Process([server, *fleet.sizes(flags)], stdout=subprocess.PIPE, text=True)
    address = process.child.stdout.readline().strip()
    fleet.prometheus_configuration(directory, address, hosts)  # for its targets.json
    return process


def victoria(server, tools, alertmanager_binary):
    """Two vmagents share the targets and write to two storages, each with a vmalert; one storage is killed."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        ports = {who: fleet.free_port() for who in ["a", "b", "agent0", "agent1", "alert_a", "alert_b"]}
        url = {who: f"http://127.0.0.1:{port}" for who, port in ports.items()}

        def storage(who):
            command = [f"{tools}/victoria-metrics", f"-storageDataPath={directory}/{who}",
                       f"-httpListenAddr=127.0.0.1:{ports[who]}", "-retentionPeriod=2d"]
            return Program(directory, who, command)

        def agent(number):
            command = [f"{tools}/vmagent", f"-promscrape.config={directory}/scrape.yml",
                       f"-httpListenAddr=127.0.0.1:{ports[f'agent{number}']}",
                       "-promscrape.cluster.membersCount=2", f"-promscrape.cluster.memberNum={number}",
                       f"-remoteWrite.url={url['a']}/api/v1/write", f"-remoteWrite.url={url['b']}/api/v1/write",
                       f"-remoteWrite.tmpDataPath={directory}/queue{number}"]
            return Program(directory, f"agent{number}", command)

        def alert(who, notifier):
            command = [f"{tools}/vmalert", f"-rule={fleet.ROOT}/alerts/*.rules.yaml",
                       f"-datasource.url={url[who]}", f"-remoteWrite.url={url[who]}", f"-remoteRead.url={url[who]}",
                       f"-notifier.url=http://127.0.0.1:{notifier}", f"-evaluationInterval={INTERVAL}s",
                       "-disableAlertgroupLabel", f"-httpListenAddr=127.0.0.1:{ports[f'alert_{who}']}"]
            return Program(directory, f"alert_{who}", command)

        notifier, managing = alertmanager(directory, alertmanager_binary, fleet.free_port())
        with managing, serving(directory, server, HOSTS), storage("b"):
            written(directory / "scrape.yml", scrape_configuration(directory))
            killed = storage("a")
            with agent(0), agent(1), alert("a", notifier), alert("b", notifier):
                clients = {who: fleet.Prometheus(ports[who]) for who in "ab"}
                counted = f'count(last_over_time(up{{job="{fleet.JOB}"}}[1m]))'
                for client in clients.values():
                    await_true("all hosts are stored", lambda c=client: c.value(counted) == HOSTS)
                since = time.time()
                shares = shares_of("vmagents", [ports[f"agent{number}"] for number in (0, 1)])

                # Until the faults that are there from the beginning have all fired.
                before = await_alerts(notifier)
                with Missing(notifier, before) as missing:
                    kill_for_a_while(killed)
                waiting = sum(metric(ports[f"agent{n}"], "vmagent_remotewrite_pending_data_bytes") for n in (0, 1))
                with storage("a"):
                    def delivered():
                        pending = "vmagent_remotewrite_pending_data_bytes"
                        return sum(metric(ports[f"agent{n}"], pending) for n in (0, 1)) == 0

                    await_true("what waited is delivered", delivered)
                    mib = waiting / 2**20
                    print(f"one storage dead for {OUTAGE_SECONDS} s: {mib:.1f} MiB waited; of {len(before)} "
                          f"alerts {len(missing.missed)} were resolved meanwhile {named(missing.missed)}")
                    if missing.missed:
                        fail("alerts were resolved because a storage was dead")
                    whole = {who: assert_whole(f"storage {who}", clients[who], since) for who in "ba"}
                    firing = {}
                    for who in "ab":
                        def count(port=ports[f"alert_{who}"]):
                            alerts = json.loads(fleet.get(f"http://127.0.0.1:{port}/api/v1/alerts"))["data"]["alerts"]
                            return sum(a["state"] == "firing" and a["name"] not in QUIET for a in alerts)

                        firing[who] = count
                    await_true("both vmalerts fire the same number", lambda: firing["a"]() == firing["b"]() > 0)
                    after = firing["a"]()
                    print(f"both vmalerts fire {after} alerts afterwards")
                    return (f"two vmagents that share {HOSTS} hosts and write to two VictoriaMetrics, each with a vmalert | "
                            f"{shares[0]} and {shares[1]} targets; one storage is killed for {OUTAGE_SECONDS} s, and meanwhile "
                            f"none of {len(before)} alerts is resolved and {mib:.1f} MiB wait in the vmagents; afterwards the "
                            f"one that stayed has {whole['b']}, the one that was killed {whole['a']}, and both vmalerts fire "
                            f"{after} alerts")


def page_blocks():
    """The configurations of docs/fleet.md: of an agent, for Mimir, and for Thanos."""
    page = (fleet.ROOT / "docs/fleet.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    if len(blocks) != 3:
        fail(f"docs/fleet.md has {len(blocks)} configurations")
    return blocks


def agent_configuration(directory, shard, address, receiver_url):
    """The page's, for this shard: with our targets and our receiver, and a last step that leads to the simulated hosts."""
    text = page_blocks()[0]
    keep = "action: keep}\n"
    for ours, of_page in [
        (f"[{directory}/targets.json]", "[targets/haproxy-host-*.yaml]"),
        (receiver_url, "http://prometheus.example.com:9090/api/v1/write"),
        (f'regex: "{shard}"', 'regex: "0"'),
        (f'{keep}      - {{target_label: __address__, replacement: "{address}"}}\n', keep),
    ]:
        if text.count(of_page) != 1:
            fail(f"the agent's configuration of docs/fleet.md does not have {of_page!r} once")
        text = text.replace(of_page, ours)
    path = directory / f"agent{shard}.yml"
    path.write_text(text)
    return path


def prometheus_agents(server, prometheus, alertmanager_binary):
    """Two Prometheus in agent mode share the targets by hashmod and write to a third, which is killed."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        port = fleet.free_port()
        receiver_url = f"http://127.0.0.1:{port}/api/v1/write"
        rules = [str(path) for path in sorted(fleet.ROOT.glob("alerts/*.rules.yaml"))]
        notifier, managing = alertmanager(directory, alertmanager_binary, fleet.free_port())
        alerting = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{notifier}"]}]}]}
        written(directory / "receiver.yml",
                {"global": {"evaluation_interval": f"{INTERVAL}s"}, "rule_files": rules, "alerting": alerting})

        def receiver():
            command = [prometheus, f"--config.file={directory}/receiver.yml", f"--storage.tsdb.path={directory}/data",
                       f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver",
                       "--rules.alert.for-grace-period=0s"]
            return Program(directory, "receiver", command)

        def agent(shard, address):
            path, own = agent_configuration(directory, shard, address, receiver_url), fleet.free_port()
            command = [prometheus, "--agent", f"--config.file={path}", f"--storage.agent.path={directory}/wal{shard}",
                       f"--web.listen-address=127.0.0.1:{own}"]
            return own, Program(directory, f"agent{shard}", command)

        client = fleet.Prometheus(port)
        with managing, serving(directory, server, HOSTS):
            # Each host under an address of its own, as in a fleet.
            targets = json.loads((directory / "targets.json").read_text())
            address = targets[0]["targets"][0]
            for target in targets:
                target["targets"] = [f"{target['labels']['instance']}:10101"]
            written(directory / "targets.json", targets)
            killed = receiver()
            (own0, agent0), (own1, agent1) = agent(0, address), agent(1, address)
            with agent0, agent1:
                await_true("all hosts are stored", lambda: client.is_ready() and client.value("count(up)") == HOSTS)
                since = time.time()
                if client.value("max(count by (instance) (up))") != 1:
                    fail("a host is scraped by both")
                shares = shares_of("Prometheus agents", [own0, own1])
                before = await_alerts(notifier)
                with Missing(notifier, before) as missing:
                    kill_for_a_while(killed)
                    with receiver():
                        await_true("the receiver is back", client.is_ready)

                        def firing():
                            alerts = client.api("alerts")["alerts"]
                            return labels_of(alert for alert in alerts if alert["state"] == "firing")

                        begun = time.monotonic()
                        await_true("what fired before fires again", lambda: before <= firing())
                        again = time.monotonic() - begun
                        whole = assert_whole("the receiver", client, since)
                        slowest = fleet.rule_times(client)[0]
                        print(f"its slowest rule group: {slowest[1]} {slowest[0]:.3f} s")
                print(f"the receiver dead for {OUTAGE_SECONDS} s: of {len(before)} alerts {len(missing.missed)} were resolved "
                      f"meanwhile {named(missing.missed)}; all fire again {again:.0f} s after it is ready")
                if missing.missed:
                    fail("alerts were resolved because the receiver was dead")
                return (f"two Prometheus agents, {HOSTS} hosts | {shares[0]} and {shares[1]} targets; the receiver is killed for "
                        f"{OUTAGE_SECONDS} s, and until it fires all {len(before)} alerts again, {again:.0f} s after its start, "
                        f"none is resolved; afterwards it has {whole}")


def configurations(promtool):
    """Those of docs/fleet.md: what cannot be run here is at least valid."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        (directory / "rules").mkdir()
        (directory / "rules/haproxy-host").symlink_to(fleet.ROOT / "alerts")
        for number, block in enumerate(page_blocks()):
            path = directory / f"{number}.yaml"
            path.write_text(block)
            agent = ["--agent"] if "remote_write" in block else []
            subprocess.run([promtool, "check", "config", *agent, path], check=True)


def main():
    server, prometheus, alertmanager_binary, tools, *chosen = sys.argv[1:]
    parts = {
        "configurations": lambda: configurations(str(pathlib.Path(prometheus).with_name("promtool"))),
        "rollout": lambda: one_rollout_is_one_notification(alertmanager_binary),
        "agents": lambda: prometheus_agents(server, prometheus, alertmanager_binary),
        "victoria": lambda: victoria(server, tools, alertmanager_binary),
    }
    about = {
        **fleet.machine(fleet.revision(server)),
        "Prometheus": fleet.version(prometheus),
        "Alertmanager": fleet.version(alertmanager_binary),
        "load average before": fleet.load_average(),
    }
    seen = []
    for name in chosen or parts:
        print(f"==> {name}", flush=True)
        seen.append(parts[name]())
    about["load average after"] = fleet.load_average()
    table = ["| part | what was seen |", "|---|---|", *(f"| {row} |" for row in seen if row)]
    text = "\n".join([
        "# More than one Prometheus", "",
        "*Written by `benches/run beyond`; README.md says what each part does.*", "",
        *(f"- {name}: {what}" for name, what in about.items()), "",
        fleet.block("beyond", "\n".join(table)), "",
    ])
    print(text)
    folder = fleet.ROOT / ("target/bench" if chosen else "benches")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "BEYOND.md").write_text(text)
    if not chosen:
        fleet.copy_figures(text, fleet.ROOT / "docs/fleet.md")


if __name__ == "__main__":
    main()
