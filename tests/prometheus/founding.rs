//! The founding incident with 300 ports: one daemon is left behind and still listens, another serves, and a
//! port that is to be added is held by the old one. A person gets one short notification about it.

use std::time::Duration;

use super::chain::{Chain, FACTOR, Programs};
use super::support::*;

/// The most lines that a notification has on a screen of [`COLUMNS`].
const MOST_LINES: usize = 15;
const COLUMNS: usize = 100;
/// `for` of the alert, as the chain runs it.
const WAIT: Duration = Duration::from_millis(60_000 / FACTOR);
/// How long after that a notification may take: evaluations, `group_wait`, and a busy machine.
const SLACK: Duration = Duration::from_secs(30);

#[test]
fn with_300_ports_on_the_oldest() {
    one_notification(&Programs::oldest());
}

#[test]
fn with_300_ports_on_the_newest() {
    one_notification(&Programs::newest());
}

fn one_notification(programs: &Programs) {
    let bed = Bed::new();
    let service = Service::new(&bed, programs.haproxy, Manner::Daemon);
    let ports: Vec<u16> = (20000..20300).collect();
    // With this line no second socket may listen beside a first, so the old daemon blocks its ports.
    let alone = "    noreuseport\n";
    let old = service.configure_with(alone, &proxies::listeners(&ports)).start();
    service.configure_with(alone, proxies::WAITING_ROOM);
    scenes::leave_behind(&bed, &service, old, &["-sf", "99999"]);
    service.configure_with(
        alone,
        &format!("{}{}", proxies::WAITING_ROOM, proxies::listeners(&[20299])),
    );
    // A file that was written within a second of the start of a process may be the one that it has read.
    bed.shell(&format!("touch -d '2 seconds' {}", service.path("haproxy.cfg").display()));
    assert!(!service.try_reload().status.success(), "the old one has the port");
    let lbagent = format!(
        "defaults: {{stale_grace: 1s, reap: {{listening: 1s}}}}\nhaproxys: [{{name: lbagent, match: {{pidfile: {}}}}}]\n",
        service.pidfile().display()
    );
    let exporter = Exporter::configured(&bed, &lbagent);
    exporter.await_page("both findings", |page| {
        page.is("haproxy_host_anomalies", &[("kind", "port_blocked")], 1.0)
            && page.is("haproxy_host_anomalies", &[("kind", "port_stale_listener")], 299.0)
    });

    let chain = Chain::start(&bed, programs);
    let (since, _) = chain.await_alert("HAProxyPortBlocked");
    chain.await_alert("HAProxyStaleListener");
    chain.await_notice("firing", "HAProxyPortBlocked");
    let notice = await_some("the text", || chain.texts().first().cloned());
    let after = Duration::from_secs_f64(notice.at - since);
    assert!((WAIT..WAIT + SLACK).contains(&after), "{after:?} after the first sight");
    assert_eq!(notice.title, "[FIRING 1] HAProxyPortBlocked: lbagent in eu1", "{}", notice.text);
    let shown: Vec<String> = notice
        .text
        .lines()
        .flat_map(|line| haproxy_host_exporter::report::text::wrap(line, COLUMNS))
        .collect();
    let lines = shown.len();
    assert!(lines <= MOST_LINES, "{lines} lines:\n{}", shown.join("\n"));
    for part in [
        "CRITICAL HAProxyPortBlocked, since 2",
        "lbagent on localhost declares 1 port that something else holds: tcp 20299 (127.0.0.1) held by haproxy stale.",
        "What is held is not served, and a start or reload now will fail.",
        "`haproxy-host-exporter inspect --haproxy lbagent`",
        "Without a browser: haproxy-host-exporter explain HAProxyPortBlocked",
    ] {
        assert!(notice.text.contains(part), "{part:?} is not in\n{}", notice.text);
    }
    chain.assert_runbook_opens(&notice, "HAProxyPortBlocked");

    // One command ends all of it: the ports are given back, and the next reload succeeds.
    let place = bed.shell("mktemp -d -p /run reap.XXXXXX");
    let reaped = bed
        .command(Exporter::binary())
        .args(["reap", "--haproxy", "lbagent", "--execute"])
        .arg("--config.file")
        .arg(bed.directory().join("exporter.yaml"))
        .arg("--reap.state-file")
        .arg(format!("{}/state/reap.json", place.trim()))
        .output()
        .unwrap();
    let said = text(&reaped.stdout) + &text(&reaped.stderr);
    assert!(reaped.status.success(), "{said}");
    assert!(said.contains("tcp 127.0.0.1:20299: can be bound"), "{said}");
    bed.shell(&format!("rm -r {place}"));
    await_true("the reload", || service.try_reload().status.success());
    chain.await_notice("resolved", "HAProxyPortBlocked");
    let texts =
        await_some("the second text", || Some(chain.texts()).filter(|texts| texts.len() > 1));
    assert_eq!(texts.len(), 2, "{texts:#?}");
    assert!(texts.iter().all(|text| text.receiver == "webhook"), "{texts:#?}");
    assert!(texts[1].title.starts_with("[RESOLVED]"), "{}", texts[1].title);
    assert!(
        texts[1].text.starts_with("RESOLVED HAProxyPortBlocked on localhost, lbagent"),
        "{}",
        texts[1].text
    );
}
