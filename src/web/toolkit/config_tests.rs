//! Tables of web configurations: their values, and the position and text of their errors.

use super::*;

const HASH: &str = "$2y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu";

fn parse(text: &str) -> Result<WebConfig, String> {
    WebConfig::parse(text, Path::new("/etc/x"))
}

#[test]
fn every_key_is_read() {
    let text = format!(
        "tls_server_config:
  cert_file: a.crt
  key: inline
  client_ca_file: /ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [a, 127.0.0.1]
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  curve_preferences: [CurveP256]
  min_version: TLS12
  max_version: TLS13
  prefer_server_cipher_suites: no
http_server_config:
  http2: off
  headers: {{X-XSS-Protection: 1, X-Frame-Options: deny}}
rate_limit: {{interval: 1m30s, burst: 7}}
basic_auth_users: {{alice: {HASH}, bob: \"{HASH}\"}}
"
    );
    let config = parse(&text).unwrap();
    let tls = config.tls.unwrap();
    assert!(matches!(&tls.certificate, Pem::File(_, path) if path == Path::new("/etc/x/a.crt")));
    assert!(matches!(&tls.key, Pem::Inline(_, text) if text == "inline"));
    assert!(matches!(&tls.client_ca, Some(Pem::File(_, path)) if path == Path::new("/ca.pem")));
    assert_eq!(tls.client_auth, ClientAuth::RequireAndVerify);
    assert_eq!(tls.allowed_sans.unwrap(), ["a", "127.0.0.1"]);
    assert_eq!((tls.suites.len(), tls.curves.len(), tls.versions.len()), (2, 1, 2));
    assert!(!tls.prefer_server_suites && !config.http2);
    assert_eq!(config.headers.len(), 2);
    let limit = config.rate_limit.unwrap();
    assert_eq!((limit.interval, limit.burst), (Duration::from_secs(90), 7));
    assert_eq!(config.users.len(), 2);
}

#[test]
fn an_absent_key_has_a_default() {
    for text in
        ["", "# nothing", "tls_server_config:\nbasic_auth_users:\n", "tls_server_config: {}"]
    {
        let config = parse(text).unwrap();
        assert!(config.tls.is_none() && config.http2 && config.users.is_empty(), "{text:?}");
        assert!(config.rate_limit.is_none() && config.headers.is_empty(), "{text:?}");
    }
    let off = parse("rate_limit: {interval: 0, burst: 3}").unwrap();
    assert!(off.rate_limit.is_none());
}

#[test]
fn errors_have_position_and_remedy() {
    let tls = "tls_server_config:\n  cert_file: a\n  key_file: b\n";
    let table: [(String, &str, &str); 18] = [
        ("tls_server_config:\n  cert_filse: a\n".into(), "unknown field", "line 2 column 3"),
        ("tls_config: {}\n".into(), "unknown field", "line 1 column 1"),
        ("tls_server_config:\n  cert_file: a\n".into(), "missing one of key", "line 2 column 3"),
        ("tls_server_config:\n  key_file: a\n".into(), "missing one of cert", "line 2"),
        (format!("{tls}  client_ca_file: c\n"), "have no effect", "line 2"),
        (format!("{tls}  client_auth_type: x\n"), "valid types: NoClientCert", "line 4 column 21"),
        (
            format!("{tls}  min_version: TLS111\n"),
            "valid versions: TLS12, TLS13",
            "line 4 column 16",
        ),
        (format!("{tls}  min_version: TLS10\n"), "write TLS12 or TLS13", "line 4 column 16"),
        (
            format!("{tls}  min_version: TLS13\n  max_version: TLS12\n"),
            "no version is left",
            "line 4",
        ),
        (format!("{tls}  cipher_suites: [A]\n"), "unknown cipher suite \"A\"", "line 4 column 19"),
        (
            format!("{tls}  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]\n"),
            "is weak and not offered",
            "line 4 column 19",
        ),
        (format!("{tls}  curve_preferences:\n  - CurveP521\n"), "not offered", "line 5 column 5"),
        (
            format!("{tls}  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n"),
            "none of these",
            "line 5",
        ),
        ("basic_auth_users:\n  a: b\n".into(), "not a bcrypt hash", "line 2 column 6"),
        (
            format!("basic_auth_users:\n  a: {HASH}\n  b: {}\n", HASH.replace("$10$", "$99$")),
            "from 04 to 31",
            "line 3 column 6",
        ),
        (
            "http_server_config:\n  headers:\n    Content-Type: foo\n".into(),
            "cannot be configured",
            "line 3 column 19",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: foo\n".into(),
            "must be one of deny",
            "line 3 column 22",
        ),
        ("rate_limit:\n  interval: 1 day\n".into(), "write it like", "line 2 column 13"),
    ];
    for (text, what, position) in table {
        let message = parse(&text).unwrap_err();
        assert!(message.contains(what), "{text}: {message}");
        assert!(message.contains(position), "{text}: {message}");
    }
}

#[test]
fn durations_are_those_of_go() {
    let table = [
        ("1s", Some(1.0)),
        ("1h1m1.5s", Some(3661.5)),
        ("500ms", Some(0.5)),
        ("1000000000", Some(1.0)),
        ("0", Some(0.0)),
        ("-5s", None),
    ];
    for (text, expected) in table {
        let GoDuration(duration) = text.parse().unwrap();
        assert_eq!(duration, expected.map(Duration::from_secs_f64), "{text}");
    }
    for text in ["", "1", "1d", "s", "1s ", "1.2.3s", "1e9s", "9999999999h"] {
        assert_eq!(text.parse::<GoDuration>().is_ok(), text == "1", "{text}");
    }
}
