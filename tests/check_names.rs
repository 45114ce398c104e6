//! `check` and the names in a configuration: those of hosts and that of the local peer, compared with what
//! the real HAProxy makes of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::*;

fn path(service: &Service<'_>) -> String {
    service.path("haproxy.cfg").display().to_string()
}

/// `check` and HAProxy understand a host name and a local peer's name alike.
fn names(version: Version) {
    let bed = Bed::new();
    bed.replace_in_etc("hosts", "127.0.0.1 both web\n::1 both web6\n127.0.0.3 web\n");
    let table = [
        ("bind web:9053", Some("127.0.0.1"), "web resolves to 127.0.0.1"),
        ("bind ipv4@both:9053", Some("127.0.0.1"), "ipv4@both resolves to 127.0.0.1"),
        ("bind ipv6@both:9053", Some("::1"), "ipv6@both resolves to ::1"),
        ("bind web6:9053", Some("::1"), "web6 resolves to ::1"),
        ("bind ipv6@web:9053", None, "host name 'web' does not resolve"),
        ("bind gone.invalid:9053", None, "host name 'gone.invalid' does not resolve"),
    ];
    for (index, (bind, address, words)) in table.into_iter().enumerate() {
        let service = Service::named(&bed, version, Manner::Daemon, &format!("lb{index}"));
        service.configure(&format!("frontend a\n    mode tcp\n    {bind}\n"));
        let code = i32::from(address.is_none());
        let said = assert_exit(&bed, &["-f", &path(&service)], code, &[words]);
        assert_eq!(said.contains("error[config_invalid]"), address.is_none(), "{said}");
        let config =
            bed.run(service.binary.display().to_string(), &["-c", "-q", "-f", &path(&service)]);
        assert_eq!(config.status.success(), address.is_some(), "{bind}: HAProxy disagrees");
        let report = check_json(&bed, &["-f", &path(&service)]);
        if let Some(address) = address {
            assert_eq!(report["listeners"][0]["address"], address, "{report:#}");
            assert_eq!(report["resolved"][0]["address"], address, "{report:#}");
            let _serving = service.launch(&[]);
            let listens = bed.shell("ss -Hanlt sport = 9053");
            assert!(listens.contains(&format!("{}:9053", bracketed(address))), "{bind}: {listens}");
            bed.kill("KILL", service.serving());
            await_true("the port to be free", || bed.shell("ss -Hanlt sport = 9053").is_empty());
        }
        let said = assert_exit(&bed, &["-f", &path(&service), "--offline"], 0, &["1 warning"]);
        assert!(said.contains("is resolved when HAProxy starts"), "{said}");
    }
    let peers = "peers p\n    peer one 127.0.0.1:9054\n    peer two 127.0.0.1:9055\n\
                 frontend a\n    bind 127.0.0.1:9056 name \"${HAPROXY_LOCALPEER}\"\n\
                 .if streq(\"$HAPROXY_LOCALPEER\",two)\n    bind 127.0.0.1:9057\n.endif\n";
    let file = bed.write("peers.cfg", peers).display().to_string();
    for (name, expected) in [("one", &[9054, 9056][..]), ("two", &[9055, 9056, 9057])] {
        let report = check_json(&bed, &["-f", &file, "-L", name]);
        let listeners = report["listeners"].as_array().unwrap();
        let mut ports: Vec<_> = listeners.iter().map(|l| l["port"].as_u64().unwrap()).collect();
        ports.sort_unstable();
        assert_eq!(ports, expected, "{report:#}");
    }
}

for_each_version! {
    host_and_peer_names => names;
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// A name server that does not answer costs no more than `--timeout`.
#[test]
fn a_check_that_takes_too_long_is_no_verdict() {
    let bed = Bed::new();
    bed.replace_in_etc("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
    let _silent = bed.inside(|| std::net::UdpSocket::bind("127.0.0.1:53")).unwrap();
    let file = bed.write("a.cfg", "frontend a\n    bind slow.example:80\n").display().to_string();
    let begun = std::time::Instant::now();
    let (output, said) = check(&bed, &["-f", &file, "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert_eq!(text(&output.stdout), "");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("not finished after 300ms") && said.contains("--timeout"), "{said}");
}

/// Another user's configuration makes root ask no name server.
#[test]
fn names_of_another_user_are_not_looked_up() {
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V3_0, Manner::Daemon);
    bed.replace_in_etc("hosts", "127.0.0.1 web\n");
    service.configure_raw(
        "defaults\n    mode tcp\n    timeout client 1h\nfrontend a\n    bind web:9053\n",
    );
    bed.shell(&format!("chown -R 65534 {}", service.path("").display()));
    bed.shell(&format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups {} -D -p {} -f {}",
        service.binary.display(),
        service.pidfile().display(),
        path(&service)
    ));
    await_true("the HAProxy to listen", || bed.shell("ss -Hanlt").contains(":9053 "));
    let report = check_json(&bed, &[]);
    assert_eq!(report["resolved"], serde_json::json!([]), "{report:#}");
    assert_eq!(report["uncertain"].as_array().unwrap().len(), 1, "{report:#}");
    // The caller who names the file asks for the name.
    assert_exit(&bed, &["-f", &path(&service)], 0, &["web resolves to 127.0.0.1"]);
}
