use crate::support::*;
for_each_version! {
  master => |v| failed(v, Manner::Master);
  bad_daemon => |v| failed(v, Manner::Daemon);
}
const HOLD: &str = "listen one\n    mode tcp\n    bind 127.0.0.1:8001\n    server echo 127.0.0.1:9000\n";
fn failed(version: Version, manner: Manner) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, manner);
    service.configure(HOLD);
    let p = service.start();
    service.configure("listen one\n    mode tcp\n    bind 127.0.0.1:8001\n    nonsense here\n");
    if manner == Manner::Master { service.signal_reload(); 
      std::thread::sleep(std::time::Duration::from_secs(2));
      println!("{version:?} {p} {:?}", service.worker_in_charge());
      println!("{}", service.ask("master.sock", "show proc").unwrap_or_default());
    } else { println!("{version:?} {:?}", service.try_reload()); }
    println!("{:?} {}", bed.pids_of("haproxy"), bed.shell("ss -tlnp; ps -ef | grep haproxy; ls -la /proc/$$/cwd; cat /proc/self/cgroup"));
    println!("{}", service.log());
}
fn slow(version: Version) {
    let bed = Bed::new();
    let service = Service::new(&bed, version, Manner::Master);
    let map: String = (0..1_000_000).map(|n| format!("key{n} value{n}\n")).collect();
    std::fs::write(service.path("big.map"), map).unwrap();
    service.configure(&format!("{HOLD}\nfrontend two\n mode http\n bind 127.0.0.1:8002\n http-request set-header x %[path,map({})]\n http-request return status 200\n", service.path("big.map").display()));
    let t = std::time::Instant::now();
    service.start();
    println!("{version:?} start {:?}", t.elapsed());
    let t = std::time::Instant::now();
    service.reload();
    println!("{version:?} reload {:?}", t.elapsed());
}
for_each_version! { slow_start => slow; }
#[test] fn quic_3_0() { quic(Version::V3_0) }
#[test] fn quic_3_2() { quic(Version::V3_2) }
fn quic(version: Version) {
    let bed = Bed::new();
    let _silent = SilentServer::start(&bed, "127.0.0.1:9000");
    let pem = certificate(&bed);
    let service = Service::new(&bed, version, Manner::Master);
    service.configure_with("    limited-quic\n", &format!("frontend web\n    mode http\n    bind quic4@127.0.0.1:8443 ssl crt {} alpn h3\n  bind 127.0.0.1:8001\n  default_backend b\nbackend b\n mode http\n server s 127.0.0.1:9000\n", pem.display()));
    let mut pids = vec![service.start()];
    let mut flows = vec![];
    for _ in 0..3 {
        flows.push(QuicFlow::open(&bed, 8443));
        pids.push(service.reload());
    }
    println!("{version:?} {pids:?} {}", bed.shell("ss -tunap"));
    for p in &pids { assert!(bed.is_alive(*p)); }
    drop(flows);
    for p in &pids[..3] { await_true("gone", || !bed.is_alive(*p)); }
}
