//! `--web.config.file`: what promtool says of a file, this program says.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::Output;

use support::*;

/// Files in which both agree, `SERVER` standing for a good certificate and key, and HASH for a
/// good hash. How each is meant is promtool's to say.
const SAME: &[&str] = &[
    "",
    "# nothing",
    "just words",
    "[a, b]",
    "a: [",
    "\tx: 1",
    "unknown: {}",
    "http_server_config: {}\nhttp_server_config: {}",
    "tls_server_config:\n  cert_filse: server.pem",
    "tls_server_config: {}",
    "tls_server_config:",
    "tls_server_config: {cert_file: '', key_file: server.key}",
    "tls_server_config: {cert_file: server.pem, key_file: ''}",
    "tls_server_config: {cert_file: server.pem}",
    "tls_server_config: {key_file: server.key}",
    "tls_server_config: {client_auth_type: NoClientCert}",
    "tls_server_config: {cert_file: none.pem, key_file: server.key}",
    "tls_server_config: {cert_file: server.pem, key_file: none.key}",
    "tls_server_config: {cert_file: server.pem, key_file: other.key}",
    "tls_server_config: {cert_file: nonsense.pem, key_file: server.key}",
    "tls_server_config: {cert_file: server.pem, key_file: empty.pem}",
    "tls_server_config: {cert_file: rsa.pem, key_file: rsa.key}",
    "tls_server_config: {cert_file: DIRECTORY/server.pem, key_file: DIRECTORY/server.key}",
    "tls_server_config: {SERVER}",
    "tls_server_config: {SERVER, client_auth_type: ''}",
    "tls_server_config: {SERVER, client_auth_type: RequestClientCert}",
    "tls_server_config: {SERVER, client_auth_type: RequireClientCert}",
    "tls_server_config: {SERVER, client_auth_type: RequireAnyClientCert}",
    "tls_server_config: {SERVER, client_auth_type: VerifyClientCertIfGiven}",
    "tls_server_config: {SERVER, client_auth_type: RequireAndVerifyClientCert}",
    "tls_server_config: {SERVER, client_auth_type: RequireAndVerifyClientCert, client_ca_file: server.pem}",
    "tls_server_config: {SERVER, client_auth_type: RequireAndVerifyClientCert, client_ca_file: nonsense.pem}",
    "tls_server_config: {SERVER, client_auth_type: RequireAndVerifyClientCert, client_ca_file: none.pem}",
    "tls_server_config: {SERVER, client_auth_type: Odd}",
    "tls_server_config: {SERVER, client_ca_file: server.pem}",
    "tls_server_config: {SERVER, client_auth_type: NoClientCert, client_ca_file: server.pem}",
    "tls_server_config: {SERVER, client_ca_file: /dev/null}",
    "tls_server_config: {SERVER, min_version: TLS12, max_version: TLS12}",
    "tls_server_config: {SERVER, min_version: TLS13}",
    "tls_server_config: {SERVER, min_version: TLS111}",
    "tls_server_config: {SERVER, min_version: 13}",
    "tls_server_config: {SERVER, max_version: tls12}",
    "tls_server_config: {SERVER, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]}",
    "tls_server_config: {SERVER, cipher_suites: [TLS_AES_128_GCM_SHA256]}",
    "tls_server_config: {SERVER, cipher_suites: []}",
    "tls_server_config: {SERVER, cipher_suites: }",
    "tls_server_config: {SERVER, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA2048]}",
    "tls_server_config: {SERVER, curve_preferences: [CurveP256, CurveP384, X25519]}",
    "tls_server_config: {SERVER, curve_preferences: [CurveP257]}",
    "tls_server_config: {SERVER, prefer_server_cipher_suites: false}",
    "tls_server_config: {SERVER, prefer_server_cipher_suites: no}",
    "tls_server_config: {SERVER, prefer_server_cipher_suites: On}",
    "tls_server_config: {SERVER, prefer_server_cipher_suites: maybe}",
    "http_server_config: {http2: false}",
    "http_server_config: {http2: off}",
    "http_server_config: {http2: 2}",
    "http_server_config: {http3: true}",
    "http_server_config: {headers: {X-Frame-Options: deny}}",
    "http_server_config: {headers: {X-Frame-Options: DENY}}",
    "http_server_config: {headers: {X-Content-Type-Options: sniff}}",
    "http_server_config: {headers: {X-XSS-Protection: 1}}",
    "http_server_config: {headers: {Content-Security-Policy: \"default-src 'self'\"}}",
    "http_server_config: {headers: {Strict-Transport-Security: ''}}",
    "http_server_config: {headers: {Content-Type: foo}}",
    "http_server_config: {headers: {x-frame-options: deny}}",
    "http_server_config: {headers: [a]}",
    "http_server_config:\n  headers: {X-Frame-Options: deny, X-Frame-Options: deny}",
    "basic_auth_users: {alice: HASH}",
    "basic_auth_users: {'': HASH}",
    "basic_auth_users: {alice: HASH, alice: HASH}",
    "basic_auth_users: {john: doe}",
    "basic_auth_users: {john: $2y$03$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu}",
    "basic_auth_users: {john: $2y$32$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu}",
    "basic_auth_users: {john: $3y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu}",
    "basic_auth_users: {john: $2y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQ}",
    "basic_auth_users:",
    "basic_auth_users: [john]",
];

/// Files in which this program is stricter, by name, or knows a key the oldest promtool is too
/// old for; with what it says, if it refuses.
const OURS: &[(&str, Option<&str>)] = &[
    ("tls_server_config: {SERVER, min_version: TLS10}", Some("write TLS12 or TLS13")),
    ("tls_server_config: {SERVER, max_version: TLS11}", Some("write TLS12 or TLS13")),
    ("tls_server_config: {SERVER, min_version: TLS13, max_version: TLS12}", Some("no version")),
    (
        "tls_server_config: {SERVER, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}",
        Some("not offered"),
    ),
    (
        "tls_server_config: {SERVER, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]}",
        Some("none of these suites"),
    ),
    ("tls_server_config: {SERVER, curve_preferences: [CurveP521]}", Some("not offered")),
    ("tls_server_config: {cert_file: p521.pem, key_file: p521.key}", Some("P-256 or P-384")),
    ("tls_server_config: {SERVER, client_allowed_sans: [x]}", None),
    ("rate_limit: {interval: 1s, burst: 5}", None),
    ("rate_limit: {interval: soon}", Some("write it like 1s")),
    ("rate_limit: {burst: many}", Some("line 1 column")),
];

#[test]
fn the_same_verdict_as_promtool() {
    let bed = Bed::new();
    bed.shell(
        "exec 2>openssl.log
         for name in server other; do openssl req -x509 -newkey ec -pkeyopt \
           ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.pem -subj /CN=x -days 2; done
         openssl req -x509 -newkey rsa:2048 -nodes -keyout pkcs8.key -out rsa.pem -subj /CN=x -days 2
         openssl rsa -in pkcs8.key -traditional -out rsa.key
         openssl ecparam -name secp521r1 -genkey -noout -out p521.key
         openssl req -x509 -key p521.key -out p521.pem -subj /CN=p521 -days 2
         echo nonsense >nonsense.pem; : >empty.pem",
    );
    let mut differ = Vec::new();
    for yaml in SAME {
        let file = file(&bed, yaml);
        let mut promtool = bed.command(oldest_prometheus("promtool"));
        let theirs = promtool.args(["check", "web-config"]).arg(&file).output().unwrap();
        let own = check(&bed, &file);
        let said = text(&own.stderr);
        if theirs.status.success() != own.status.success() {
            differ.push(format!("{yaml}\n  promtool: {}\n  own: {said}", text(&theirs.stderr)));
        }
        let placed = said.contains("table.yml") && said.contains("line ");
        assert!(own.status.success() || placed, "{yaml}\n{said}");
        assert!(matches!(own.status.code(), Some(0 | 2)), "{yaml}\n{said}");
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    for (yaml, refused) in OURS {
        let own = check(&bed, &file(&bed, yaml));
        let said = text(&own.stderr);
        assert_eq!(own.status.success(), refused.is_none(), "{yaml}\n{said}");
        assert!(refused.is_none_or(|why| said.contains(why)), "{yaml}\n{said}");
    }
}

fn file(bed: &Bed, yaml: &str) -> std::path::PathBuf {
    let yaml = yaml
        .replace("SERVER", "cert_file: server.pem, key_file: server.key")
        .replace("HASH", "$2y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu")
        .replace("DIRECTORY", &bed.directory().display().to_string());
    bed.write("table.yml", &(yaml + "\n"))
}

fn check(bed: &Bed, file: &Path) -> Output {
    let mut command = bed.command(Exporter::binary());
    command.args(["--config.check", "--web.config.file"]).arg(file).output().unwrap()
}
