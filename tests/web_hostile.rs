//! Hostile HTTP: under every attack good scrapes go on, and memory stays bounded.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::*;

const ADDRESS: &str = "127.0.0.1:10101";
const SCRAPES: usize = 300;
/// The goal is 50 ms. On a machine that tests share this limit is higher, and still shows a stall.
const TOLERABLE: Duration = Duration::from_secs(2);

/// Between two attacks of one attacker, who is elsewhere and does not take the exporter's processor:
/// some thousand connections a second in all.
const PACE: Duration = Duration::from_millis(2);

/// Two crowds at a time would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// What a hostile client does once; it connects anew each time.
type Attack = fn(TcpStream);

const ATTACKS: [(&str, Attack); 9] = [
    ("malformed requests", |mut stream| {
        let _ = stream.write_all(b"\x16\x03\x01\x00GET\r\n\r\n\xff\xfe : HTTP/9.9\r\n\r\n");
        drain(stream);
    }),
    ("huge header", |mut stream| {
        let line = [b"X-Junk: ".to_vec(), vec![b'a'; 64 << 10], b"\r\n".to_vec()].concat();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n");
        let _ = stream.write_all(&line);
        drain(stream);
    }),
    ("very many headers", |mut stream| {
        let lines = "A: b\r\n".repeat(5000);
        let _ = stream.write_all(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes());
        drain(stream);
    }),
    ("pipelining without reading", |mut stream| {
        let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
        let _ =
            stream.write_all("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000).as_bytes());
    }),
    ("a body that does not end", |mut stream| {
        let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
        let _ = stream.write_all(b"POST /-/reload HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n");
        for _ in 0..64 {
            if stream.write_all(&[b'x'; 16 << 10]).is_err() {
                break;
            }
        }
    }),
    ("smuggling", |mut stream| {
        let _ = stream.write_all(
            b"GET / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /",
        );
    }),
    ("HTTP/2 without being asked", |mut stream| {
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        drain(stream);
    }),
    ("half a request, then gone", |mut stream| {
        let _ = stream.write_all(b"GET /metrics HTT");
    }),
    ("the page for a person, again and again", |mut stream| {
        let _ = stream.write_all("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20).as_bytes());
        drain(stream);
    }),
];

fn drain(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    let mut buffer = [0; 4096];
    let start = Instant::now();
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
        if start.elapsed() > Duration::from_millis(200) {
            break;
        }
    }
}

#[test]
fn scrapes_go_on() {
    let _alone = ALONE.lock();
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::Daemon);
    let binds: Vec<_> = (8000..8400).map(|port| format!("    bind 127.0.0.1:{port}\n")).collect();
    let binds = binds.concat();
    service.configure(&format!("listen one\n    mode tcp\n{binds}    server nobody 127.0.0.1:9\n"));
    service.start();
    let exporter = Exporter::start(&bed);
    exporter.await_page("its ports", |page| page.sum("haproxy_host_bound_ports", &[]) > 399.0);
    let before = memory(&exporter);
    let over = AtomicBool::new(false);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        for (name, attack) in ATTACKS {
            let (enter, over) = (bed.door(), &over);
            let attacker = move || {
                enter();
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(PACE);
                    if let Ok(stream) = TcpStream::connect(ADDRESS) {
                        attack(stream);
                    }
                }
            };
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn_scoped(scope, attacker)
                .unwrap();
        }
        // Far more than there are places, silent or sending a byte now and then.
        let (enter, over_) = (bed.door(), &over);
        scope.spawn(move || {
            enter();
            let mut crowd = std::collections::VecDeque::new();
            while !over_.load(Ordering::Relaxed) {
                std::thread::sleep(PACE / 4);
                if let Ok(stream) = TcpStream::connect(ADDRESS) {
                    crowd.push_back(stream);
                }
                if crowd.len() > 700 {
                    crowd.pop_front();
                }
                if let Some(stream) = crowd.back_mut() {
                    let _ = stream.write_all(b"G");
                }
            }
        });
        for _ in 0..SCRAPES {
            let start = Instant::now();
            let response = exporter.get("/metrics");
            times.push(start.elapsed());
            if response.is_none_or(|response| response.status != 200) {
                over.store(true, Ordering::Relaxed);
                panic!("a scrape failed:\n{}", exporter.running.log());
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    times.sort_unstable();
    let (half, most) = (times[SCRAPES / 2], times[SCRAPES * 99 / 100]);
    let after = memory(&exporter);
    println!("scrapes: p50 {half:?}, p99 {most:?}; memory {before} kB, then {after} kB");
    assert!(most < TOLERABLE, "p50 {half:?}, p99 {most:?}");
    assert!(after < before + (64 << 10), "{before} kB, then {after} kB");
}

/// Over TLS with a password: nonsense instead of a handshake, handshakes that stop, wrong passwords.
#[test]
fn scrapes_go_on_over_tls() {
    let _alone = ALONE.lock();
    let bed = Bed::new();
    bed.shell(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout s.key \
           -out s.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost -days 2 2>/dev/null
         printf 'tls_server_config: {cert_file: s.pem, key_file: s.key}\n' >web.yml
         printf 'basic_auth_users: {alice: %s}\n' \
           \"$(htpasswd -nbB -C 8 x secret | sed -n 's/^x://p')\" >>web.yml",
    );
    let mut command = bed.command(Exporter::binary());
    command.args(["--web.listen-address", ADDRESS, "--web.config.file", "web.yml"]);
    let running = bed.start(command, "exporter.log");
    let scrape = |user: &str| {
        let mut curl = bed.command(tool("curl"));
        curl.args(["-so", "/dev/null", "-w", "%{http_code} %{time_total}", "--cacert", "s.pem"]);
        let output = curl.args(["-m", "20", "-u", user, "https://localhost:10101/metrics"]);
        let said = text(&output.output().unwrap().stdout);
        let (status, seconds) = said.split_once(' ').unwrap();
        (status.to_owned(), Duration::from_secs_f64(seconds.parse().unwrap()))
    };
    await_true("a first scrape", || scrape("alice:secret").0 == "200");
    let over = AtomicBool::new(false);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let beginnings: [&[u8]; 3] =
            [b"GET /metrics HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\xff"];
        for beginning in beginnings {
            let (enter, over) = (bed.door(), &over);
            scope.spawn(move || {
                enter();
                let mut held = std::collections::VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(PACE);
                    if let Ok(mut stream) = TcpStream::connect(ADDRESS) {
                        let _ = stream.write_all(beginning);
                        held.push_back(stream);
                    }
                    if held.len() > 300 {
                        held.pop_front();
                    }
                }
            });
        }
        let (guess, over_) = (&scrape, &over);
        scope.spawn(move || {
            let mut guesses = 0..;
            while !over_.load(Ordering::Relaxed) {
                let user = format!("alice:{}", guesses.next().unwrap_or(0));
                assert_ne!(guess(&user).0, "200", "{user}");
            }
        });
        for _ in 0..100 {
            let (status, time) = scrape("alice:secret");
            if status != "200" {
                over.store(true, Ordering::Relaxed);
                panic!("a scrape gave {status}:\n{}", running.log());
            }
            times.push(time);
        }
        over.store(true, Ordering::Relaxed);
    });
    times.sort_unstable();
    let (half, most) = (times[50], times[98]);
    println!("scrapes over TLS, each with its handshake: p50 {half:?}, p99 {most:?}");
    assert!(most < TOLERABLE, "p50 {half:?}, p99 {most:?}");
}

fn memory(exporter: &Exporter<'_>) -> u64 {
    let page = exporter.page();
    let bytes = page.value("process_resident_memory_bytes", &[]).unwrap();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bytes of one process
    let kilobytes = (bytes / 1024.0) as u64;
    kilobytes
}
