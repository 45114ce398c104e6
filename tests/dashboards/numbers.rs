//! Every query of the boards on a real Prometheus that scraped the real exporter: where all is well nothing
//! is missing, and where something is wrong the numbers say so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::answers::{Answers, ask, choice};
use super::board::{BOARDS, Board, links, mapping, root, targets};
use super::fleet::{
    EMPTY, FOUNDING, Fleet, HEALTHY, OLD_PROCESSES, Pace, SILENT, STRANDED, THRESHOLD, draw,
    with_fleet,
};

/// Queries that have no answer where all is well, and so show their panel's text or leave a column out.
const SILENT_IN_HEALTH: [(&str, &str); 6] = [
    ("What is wrong now", "A"),
    ("What is wrong now", "B"),
    ("Anomalies by kind", "B"), // beside "all critical"
    ("Longest stale", "A"),
    ("Stale processes by state", "A"), // a reload may be over between two evaluations
    ("What exporters cannot see", "A"), // beside the exporters that do not answer
];
/// Panels that show only what is wrong.
const ONLY_WRONG: [&str; 3] =
    ["HAProxys with something wrong", "Hosts with something wrong", "Configuration differs"];

/// With `DRAW_FOR_README` set it only draws the pictures of the README, in five minutes, so that
/// there is a past to see in them.
#[test]
fn the_numbers_tell_what_is_wrong() {
    if std::env::var_os("DRAW_FOR_README").is_some() {
        let pace = Pace { pause: Duration::from_secs(20), hasty: false };
        return with_fleet(pace, |fleet| pictures(fleet, &root().join("dashboards")));
    }
    let pace = Pace { pause: Duration::from_millis(1200), hasty: true };
    with_fleet(pace, |fleet| {
        // First, so that they are there to look at when something below fails.
        pictures(fleet, &root().join("target/dashboards"));

        let health = [
            choice(&[("instance", HEALTHY)]),
            choice(&[
                ("instance", HEALTHY),
                ("haproxy", "web"),
                ("cluster", "eu1"),
                ("job", "haproxy-host-exporter"),
            ]),
        ];
        for chosen in &health {
            for board in BOARDS {
                let answers = ask(fleet, board, chosen);
                for (panel, query, instead) in answers.silent() {
                    assert!(
                        ONLY_WRONG.contains(&panel.as_str())
                            || SILENT_IN_HEALTH.contains(&(panel.as_str(), query.as_str())),
                        "{board}: {panel} {query} has no data"
                    );
                    assert!(instead != "No data" && !instead.is_empty(), "{board}: {panel}");
                }
                assert!(!answers.annotations("Reloads").is_empty(), "{board}: no reload");
                assert_eq!(answers.annotations("Alerts").len(), 0, "{board}");
            }
            well(&ask(fleet, "fleet", chosen));
        }
        let host = ask(fleet, "host", &health[0]);
        assert_eq!(host.stat("Serves"), Some(1.0));
        assert_eq!(host.value("Anomalies", "A", &[]), Some(0.0));
        assert_eq!(host.value("Anomalies", "B", &[]), Some(0.0));
        assert_eq!(host.stat("Generations"), Some(1.0));
        assert_eq!(host.stat("Ports"), Some(3.0));
        assert!(host.stat("Reloads that fit").unwrap() > 1.0);

        whole_fleet(&ask(fleet, "fleet", &choice(&[])));
        founding_fleet(&ask(fleet, "fleet", &choice(&[("instance", FOUNDING)])));
        founding_host(&ask(fleet, "host", &choice(&[("instance", FOUNDING)])));
        stranded_fleet(&ask(fleet, "fleet", &choice(&[("instance", STRANDED)])));
        stranded_host(&ask(fleet, "host", &choice(&[("instance", STRANDED), ("haproxy", "edge")])));
        three_clicks(fleet);
        for instance in [EMPTY, SILENT] {
            for board in BOARDS {
                let answers = ask(fleet, board, &choice(&[("instance", instance)]));
                for (panel, _, instead) in answers.silent() {
                    assert!(instead != "No data" && !instead.is_empty(), "{board}: {panel}");
                }
            }
        }
    });
}

fn pictures(fleet: &Fleet, directory: &Path) {
    let answers: PathBuf = root().join("target/dashboards");
    for (board, picture, chosen) in [
        ("fleet", directory.join("fleet.png"), choice(&[])),
        ("host", directory.join("host.png"), choice(&[("instance", FOUNDING)])),
        ("fleet", answers.join("fleet-healthy.png"), choice(&[("instance", HEALTHY)])),
        ("host", answers.join("host-healthy.png"), choice(&[("instance", HEALTHY)])),
        ("host", answers.join("host-stranded.png"), choice(&[("instance", STRANDED)])),
    ] {
        let json = answers.join(picture.file_name().unwrap()).with_extension("json");
        ask(fleet, board, &chosen).write(&json);
        draw(board, &json, &picture);
    }
}

fn well(fleet: &Answers) {
    for panel in [
        "HAProxys down",
        "Ports not served",
        "Served by old processes",
        "Ports out of policy",
        "Processes piling up",
        "Ports at risk",
        "Blind exporters",
        "Hosts without HAProxy",
        "Stale processes",
    ] {
        assert_eq!(fleet.stat(panel), Some(0.0), "{panel}");
    }
    assert_eq!(fleet.stat("Hosts"), Some(1.0));
    for panel in ONLY_WRONG {
        for target in targets(fleet.board.panel(panel)) {
            assert!(fleet.series(panel, &target.reference).is_empty(), "{panel}");
        }
    }
}

fn whole_fleet(fleet: &Answers) {
    assert_eq!(fleet.offers("instance"), [HEALTHY, FOUNDING, STRANDED, EMPTY, SILENT]);
    assert_eq!(fleet.offers("haproxy"), ["edge", "lbagent", "web"]);
    assert_eq!(fleet.offers("cluster"), ["eu1"]);
    assert_eq!(fleet.stat("Hosts"), Some(5.0));
    assert_eq!(fleet.stat("Hosts without HAProxy"), Some(1.0));
    assert_eq!(fleet.stat("Blind exporters"), Some(1.0));
    assert_eq!(fleet.stat("HAProxys"), Some(3.0));
    assert_eq!(fleet.stat("HAProxys down"), Some(0.0));
    assert_eq!(fleet.stat("Processes piling up"), Some(1.0));
    // Each host in one rank, by the worst of its time.
    let state =
        |rank, instance| fleet.value("Hosts with something wrong", rank, &[("instance", instance)]);
    for (host, states) in [
        (HEALTHY, [None; 3]),
        (STRANDED, [Some(5.0), None, None]),
        (EMPTY, [None, None, Some(2.0)]),
        (SILENT, [None, Some(4.0), None]),
        (FOUNDING, [Some(5.0), None, None]),
    ] {
        assert_eq!(["A", "B", "C"].map(|rank| state(rank, host)), states, "{host}");
    }
    let listed = |haproxy| {
        fleet.value("HAProxys with something wrong", "A", &[("haproxy", haproxy)]).is_some()
    };
    assert_eq!(["edge", "lbagent", "web"].map(listed), [true, true, false]);
}

/// Fleet board of the incident: the pile is over its threshold, the port is named with its holder.
fn founding_fleet(fleet: &Answers) {
    assert_eq!(fleet.stat("Processes piling up"), Some(1.0));
    assert_eq!(fleet.stat("Stale processes"), Some(f64::from(OLD_PROCESSES)));
    let lbagent = [("instance", FOUNDING), ("haproxy", "lbagent")];
    assert_eq!(
        fleet.value("HAProxys with something wrong", "C", &lbagent),
        Some(f64::from(OLD_PROCESSES + 1))
    );
    let share = fleet.value("HAProxys with something wrong", "E", &lbagent).unwrap();
    assert!((share - f64::from(OLD_PROCESSES) / f64::from(THRESHOLD)).abs() < 1e-9, "{share}");
    assert!(fleet.value("HAProxys with something wrong", "F", &lbagent).is_some());
    assert!(
        fleet.value("Connections of stale processes", "A", &[("state", "established")]).unwrap()
            > 0.0
    );
    assert!(fleet.stat("Ports at risk").unwrap() >= 1.0);
    let ephemeral = fleet.wrong("port_ephemeral");
    let ports =
        |kind| fleet.value("What is wrong now", "B", &[("instance", FOUNDING), ("kind", kind)]);
    // 59044 and 59050.
    assert_eq!(ports("port_ephemeral"), Some(2.0), "{ephemeral:?}");
    assert_eq!(fleet.stat("Ports not served"), Some(1.0));
    assert_eq!(ports("port_blocked"), Some(1.0));
    blocked(fleet);
    let alerts: Vec<&str> = fleet
        .annotations("Alerts")
        .iter()
        .filter_map(|series| series["metric"]["alertname"].as_str())
        .collect();
    assert!(alerts.contains(&"HAProxyStaleProcessesPilingUp"), "{alerts:?}");
    // The runbook's name and the first step are made of the kind, in columns of their own.
    assert!(ephemeral.iter().all(|row| row["runbook"] == "port_ephemeral"
        && row["first_step"] == "port_ephemeral"
        && row["severity"] == "3 info"));
}

/// A person who does not know the tool opens the fleet board: the row names host, kind and holder; one
/// click opens the host, which names the port, another the runbook.
fn three_clicks(fleet: &Fleet) {
    let board = ask(fleet, "fleet", &choice(&[]));
    let kind = "port_blocked";
    let row = board.wrong(kind)[0];
    let panel = board.board.panel("What is wrong now");
    let follow = |column: &str, own: &str| {
        let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
        let column = overrides.iter().find(|o| o["matcher"]["options"] == column).unwrap();
        links(column)[0]
            .replace(
                &format!("${{__value.{own}}}"),
                match own {
                    "text" => mapping(panel, "Runbook")[kind].0,
                    _ => row["instance"].as_str().unwrap(),
                },
            )
            .replace("${__data.fields.haproxy:percentencode}", row["haproxy"].as_str().unwrap())
    };
    let host = follow("Host", "raw:percentencode");
    let chosen: Vec<(&str, &str)> = host
        .split(['?', '&'])
        .filter_map(|part| part.strip_prefix("var-")?.split_once('='))
        .collect();
    assert_eq!(chosen, [("instance", FOUNDING), ("haproxy", "lbagent")], "{host}");
    let host = ask(fleet, "host", &choice(&chosen));
    assert_eq!(host.wrong(kind)[0]["port"], "59044");
    assert_eq!(host.wrong(kind)[0]["holder"], row["holder"]);
    assert!(!mapping(panel, "First step")[kind].0.is_empty());

    let runbook = follow("Runbook", "text");
    let path = runbook.strip_prefix("${runbooks:raw}").unwrap();
    for name in BOARDS {
        let found = Board::read(name);
        let query = found.expand(&found.runbooks_query(), &choice(&[]), &fleet.times());
        let answer = fleet.prometheus.instant(&query, fleet.times().end);
        let base = answer[0]["metric"]["runbooks"].as_str().unwrap();
        let host = base.strip_prefix("http://").and_then(|rest| rest.strip_suffix(":10101"));
        let page = fleet.prometheus.exporter_answer(host.unwrap(), path);
        assert!(page.contains("## Mitigation"), "{runbook}: {page}");
    }
}

fn founding_host(host: &Answers) {
    assert_eq!(host.stat("Serves"), Some(1.0));
    assert_eq!(host.stat("Generations"), Some(f64::from(OLD_PROCESSES + 1)));
    assert_eq!(host.stat("Stale processes"), Some(f64::from(OLD_PROCESSES)));
    assert!(host.stat("Longest stale").unwrap() > 0.0);
    assert_eq!(
        host.value("Stale processes by state", "A", &[("state", "draining")]),
        Some(f64::from(OLD_PROCESSES))
    );
    assert!(host.value("Memory by generation", "A", &[("generation", "stale")]).unwrap() > 0.0);
    // 59044 is no listener, however much it looks like one.
    let ports = host.series("Listening ports", "A");
    assert!(
        ports
            .iter()
            .all(|row| row["metric"]["port"] != "59044" && row["metric"]["protocol"] == "tcp"),
        "{ports:?}"
    );
    assert_eq!(ports.len(), 4, "{ports:?}");
    blocked(host);
    assert_eq!(host.wrong("port_blocked")[0]["port"], "59044");
    assert!(host.wrong("port_ephemeral").iter().any(|row| row["port"] == "59050"));
}

/// The new service's host, and the holder of its port.
fn blocked(answers: &Answers) {
    let rows = answers.wrong("port_blocked");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["instance"], FOUNDING);
    assert!(rows[0]["holder"].as_str().unwrap().starts_with("haproxy"), "{rows:?}");
}

fn stranded_fleet(fleet: &Answers) {
    // 8001, which is no longer declared, and the ports that the worker shares with its successor: one row for all.
    assert!(fleet.stat("Served by old processes").unwrap() >= 1.0);
    let rows = fleet.wrong("port_stale_listener");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["holder"], "haproxy stale");
    let kind = [("kind", "port_stale_listener")];
    assert!(fleet.value("What is wrong now", "B", &kind).unwrap() >= 1.0);
    assert!(rows.iter().all(|row| row["severity"] == "1 critical"), "{rows:?}");
    assert_eq!(fleet.value("Stale processes by state", "A", &[("state", "listening")]), Some(1.0));
}

fn stranded_host(host: &Answers) {
    assert!(host.value("Anomalies", "A", &[]).unwrap() >= 1.0);
    let left = host.wrong("port_stale_listener");
    assert!(left.iter().any(|row| row["port"] == "8001" && row["holder"] == "haproxy stale"));
    let ports = host.series("Listening ports", "A");
    let stale = |port: &str| {
        ports
            .iter()
            .any(|row| row["metric"]["port"] == port && row["metric"]["generation"] == "stale")
    };
    assert!(stale("8001"), "{ports:?}");
    assert!(
        host.value("Anomalies by kind", "B", &[("kind", "port_stale_listener")]).unwrap() >= 1.0
    );
    assert!(
        links(host.board.panel("What is wrong now")).iter().any(|url| url.contains("/runbooks/"))
    );
}
