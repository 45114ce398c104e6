//! `--web.config.file` against curl, openssl and a real Prometheus.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::*;

const TLS: &str = "tls_server_config: {cert_file: server.pem, key_file: server.key";

#[test]
fn a_bad_file_stops_the_start() {
    let bed = Bed::new();
    let web = bed.write("web.yml", "tls_server_config:\n  cert_file: a.pem\n  key_file: b\n");
    let mut command = bed.command(Exporter::binary());
    command.args(["--web.listen-address", "127.0.0.1:10101", "--web.config.file"]).arg(&web);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in ["web.yml", "tls_server_config.cert_file", "a.pem: No such", "line 2 column 14"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("listening"), "{said}");
}

#[test]
fn versions_suites_and_http2() {
    let bed = Bed::new();
    credentials(&bed);
    let only = ", max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]";
    let table: [(&str, &[&str], u16, &str); 9] = [
        ("", &[], 200, " 2\n"),
        ("", &["--http1.1"], 200, " 1.1\n"),
        ("", &["--tls-max", "1.2"], 200, " 2\n"),
        ("", &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"], 0, ""),
        (", min_version: TLS13", &["--tls-max", "1.2"], 0, ""),
        (", max_version: TLS12", &["--tlsv1.3"], 0, ""),
        (only, &["--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"], 200, ""),
        (only, &["--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"], 0, ""),
        (", curve_preferences: [CurveP384]", &["--curves", "X25519"], 0, ""),
    ];
    let mut running: Option<(&str, Running)> = None;
    for (keys, arguments, status, said) in table {
        if running.as_ref().is_none_or(|(old, _)| *old != keys) {
            drop(running.take());
            running = Some((keys, serve(&bed, &format!("{TLS}{keys}}}\n"), &[])));
        }
        let (got, output) = curl(&bed, arguments, "/-/healthy");
        assert_eq!(got, status, "{keys} {arguments:?}: {output}");
        assert!(output.contains(said), "{keys} {arguments:?}: {output}");
    }
    drop(running);
    let _running = serve(&bed, &format!("{TLS}}}\nhttp_server_config: {{http2: no}}\n"), &[]);
    let (_, output) = curl(&bed, &[], "/-/healthy");
    assert!(output.contains("200 1.1\n"), "{output}");
}

#[test]
fn clients_certificates() {
    let bed = Bed::new();
    credentials(&bed);
    let verify = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem";
    // The status without a certificate, with one of the authority, with another of the authority, and with
    // one that no authority signed.
    let table: [(String, [u16; 4]); 10] = [
        (", client_auth_type: NoClientCert".into(), [200, 200, 200, 200]),
        (", client_auth_type: RequestClientCert".into(), [200, 200, 200, 200]),
        (", client_auth_type: RequireAnyClientCert".into(), [0, 200, 200, 200]),
        (
            ", client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem".into(),
            [200, 200, 200, 0],
        ),
        (verify.into(), [0, 200, 200, 0]),
        (format!("{verify}, client_allowed_sans: [x]"), [0, 200, 0, 0]),
        (format!("{verify}, client_allowed_sans: [10.1.2.3, y]"), [0, 200, 0, 0]),
        (format!("{verify}, client_allowed_sans: ['spiffe://good/one']"), [0, 200, 0, 0]),
        // Its own authority.
        (
            ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: self.pem".into(),
            [0, 0, 0, 200],
        ),
        (", client_auth_type: RequireAndVerifyClientCert".into(), [0, 0, 0, 0]),
    ];
    for (keys, expected) in table {
        let _running = serve(&bed, &format!("{TLS}{keys}}}\n"), &[]);
        for (client, expected) in ["", "good", "bad", "self"].into_iter().zip(expected) {
            let (pem, key) = (format!("{client}.pem"), format!("{client}.key"));
            let arguments = ["--cert", &pem, "--key", &key];
            let arguments = if client.is_empty() { &[] } else { &arguments[..] };
            let (status, said) = curl(&bed, arguments, "/-/healthy");
            assert_eq!(status, expected, "{keys} {client}: {said}");
        }
    }
}

#[test]
fn users_headers_and_rate() {
    let bed = Bed::new();
    credentials(&bed);
    let hash = hash_of(&bed, "secret");
    let yaml = format!(
        "{TLS}}}\nbasic_auth_users: {{alice: {hash}}}\nhttp_server_config:\n  headers:\n    \
         X-Frame-Options: sameorigin\n    Strict-Transport-Security: max-age=9\n"
    );
    let _running = serve(&bed, &yaml, &["--web.enable-lifecycle"]);
    let table: [(&[&str], &str, u16); 9] = [
        (&[], "/metrics", 401),
        (&[], "/", 401),
        (&[], "/nothing", 401),
        (&["-X", "POST"], "/-/reload", 401),
        (&["-u", "alice:wrong"], "/metrics", 401),
        (&["-u", "nobody:secret"], "/metrics", 401),
        (&["-u", "alice:secret"], "/metrics", 200),
        (&["-u", "alice:secret", "-X", "POST"], "/-/reload", 200),
        (&[], "/-/healthy", 200),
    ];
    for (arguments, path, expected) in table {
        let (status, said) = curl(&bed, arguments, path);
        assert_eq!(status, expected, "{path} {arguments:?}: {said}");
        let said = said.to_lowercase();
        assert_eq!(said.contains("www-authenticate: basic"), expected == 401, "{said}");
        assert!(said.contains("x-frame-options: sameorigin"), "{said}");
        assert!(said.contains("strict-transport-security: max-age=9"), "{said}");
    }
    // The limit counts for all requests, good or not; it is read while running.
    bed.write("web.yml", &format!("{TLS}}}\nrate_limit: {{interval: 1h, burst: 3}}\n"));
    await_true("the limit", || curl(&bed, &[], "/-/healthy").0 == 429);
    bed.write("web.yml", &format!("{TLS}}}\n"));
    await_true("no limit", || curl(&bed, &[], "/-/healthy").0 == 200);
}

/// What changes on disk counts without a restart; what is bad does not.
#[test]
fn files_are_followed() {
    let bed = Bed::new();
    credentials(&bed);
    let hash = hash_of(&bed, "secret");
    let running = serve(&bed, &format!("{TLS}}}\n"), &[]);
    let shows = |wanted: &str| {
        let (status, said) = curl(&bed, &["-u", "alice:secret"], "/metrics");
        let line = format!("haproxy_host_exporter_config_last_reload_successful {wanted}\n");
        status == 200 && said.contains(&line)
    };
    let replaced = || {
        let served = bed.shell(
            "openssl s_client -connect 127.0.0.1:10101 -servername localhost </dev/null 2>/dev/null | \
             openssl x509 -noout -ext subjectAltName",
        );
        served.contains("DNS:replaced")
    };
    assert!(!replaced());
    // A certificate without its key is not put in force, and is when the key comes.
    bed.shell("mv other.pem server.pem");
    await_true("the failure to show", || shows("0"));
    assert!(!replaced());
    bed.shell("mv other.key server.key");
    await_true("the new certificate", replaced);
    await_true("success to show", || shows("1"));

    let good = format!("{TLS}}}\nbasic_auth_users: {{alice: {hash}}}\n");
    bed.write("web.yml", &good);
    await_true("users", || curl(&bed, &[], "/metrics").0 == 401);
    // Nonsense, and losing TLS, leave the last good one in force.
    for bad in ["nonsense: 1\n".to_owned(), format!("basic_auth_users: {{alice: {hash}}}\n")] {
        bed.write("web.yml", &bad);
        await_true("the failure to show", || shows("0"));
        assert_eq!(curl(&bed, &[], "/metrics").0, 401);
        bed.write("web.yml", &good);
        await_true("success to show", || shows("1"));
    }
    let log = running.log();
    assert!(
        log.contains("unknown field `nonsense`") && log.contains("restart the exporter"),
        "{log}"
    );
}

#[test]
fn prometheus_scrapes_over_tls_with_a_password() {
    let bed = Bed::new();
    credentials(&bed);
    let hash = hash_of(&bed, "secret");
    let tls = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, \
               client_allowed_sans: [x]";
    let yaml = format!("{TLS}{tls}}}\nbasic_auth_users: {{alice: {hash}}}\n");
    let _running = serve(&bed, &yaml, &[]);
    let config = bed.write(
        "prometheus.yml",
        "global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: haproxy-host
    scheme: https
    basic_auth: {username: alice, password: secret}
    tls_config: {ca_file: ca.pem, cert_file: good.pem, key_file: good.key}
    static_configs: [{targets: [\"127.0.0.1:10101\"]}]
",
    );
    let mut command = bed.command(oldest_prometheus("prometheus"));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", bed.directory().join("tsdb").display()))
        .arg("--web.listen-address=127.0.0.1:9090");
    let _prometheus = bed.start(command, "prometheus.log");
    await_true("a scrape", || {
        let query = "http://127.0.0.1:9090/api/v1/query?query=up";
        let answer = bed.command(tool("curl")).args(["-s", query]).output().unwrap();
        text(&answer.stdout).contains(",\"1\"]")
    });
}

/// A certificate authority, a server's certificate, clients' certificates.
fn credentials(bed: &Bed) {
    bed.shell(
        "exec 2>openssl.log
         new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key \
           -out $1.csr -subj /CN=$1; }
         sign() { new $1; printf \"subjectAltName=$2\\n\" >$1.ext; openssl x509 -req -in $1.csr \
           -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.pem; }
         openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2
         sign server DNS:localhost,IP:127.0.0.1
         sign other DNS:localhost,DNS:replaced
         sign good DNS:x,IP:10.1.2.3,URI:spiffe://good/one,email:a@b.c
         sign bad DNS:bad.example
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout self.key \
           -out self.pem -subj /CN=self -days 2",
    );
}

fn hash_of(bed: &Bed, password: &str) -> String {
    // The least cost there is: tests try many passwords.
    let line = bed.shell(&format!("{} -nbB -C 4 x {password}", tool("htpasswd")));
    line.trim().strip_prefix("x:").unwrap().to_owned()
}

/// The exporter with a web configuration, once it accepts connections.
fn serve(bed: &Bed, yaml: &str, more: &[&str]) -> Running {
    let web = bed.write("web.yml", yaml);
    let mut command = bed.command(Exporter::binary());
    command.args(["--web.listen-address", "127.0.0.1:10101", "--sample.interval", "200ms"]);
    command.arg("--web.config.file").arg(web).args(more);
    let mut running = bed.start(command, "exporter.log");
    await_true("the exporter to listen", || {
        assert!(!running.has_ended(), "{}", running.log());
        bed.inside(|| std::net::TcpStream::connect("127.0.0.1:10101")).is_ok()
    });
    running
}

/// Status, 0 when there was no answer, and everything curl printed.
fn curl(bed: &Bed, arguments: &[&str], path: &str) -> (u16, String) {
    let output = bed
        .command(tool("curl"))
        .args(["-sSi", "-m", "20", "-w", "\n%{http_code} %{http_version}\n", "--cacert", "ca.pem"])
        .args(arguments)
        .arg(format!("https://localhost:10101{path}"))
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    let status = printed.lines().last().unwrap_or_default();
    let status = status.split(' ').next().unwrap().parse().unwrap_or(0);
    (status, printed + &text(&output.stderr))
}

/// The health check takes any certificate, because the question is whether the server answers. One that
/// demands a certificate of its clients cannot be asked.
#[test]
fn healthcheck_over_tls() {
    let bed = Bed::new();
    credentials(&bed);
    let ask = || {
        let url = ["healthcheck", "--url", "https://127.0.0.1:10101/-/healthy"];
        let output = Exporter::command(&bed, &url);
        (output.status.code(), text(&output.stderr))
    };
    for versions in ["", ", max_version: TLS12"] {
        let _running = serve(&bed, &format!("{TLS}{versions}}}\n"), &[]);
        assert_eq!(ask(), (Some(0), String::new()), "{versions}");
    }
    let verify = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}\n";
    let _running = serve(&bed, &format!("{TLS}{verify}"), &[]);
    let (code, said) = ask();
    assert!(code == Some(1) && said.contains("ertificate"), "{said}");
}
