use crate::support::*;
for_each_version! {
  daemon => |v| chain(v, Manner::Daemon);
  transfer => |v| chain(v, Manner::DaemonTransfer);
  master => |v| chain(v, Manner::Master);
}
const HOLD: &str =
    "listen one\n    mode tcp\n    bind 127.0.0.1:8001\n    server echo 127.0.0.1:9000\n";
fn chain(version: Version, manner: Manner) {
    let bed = Bed::new();
    let _echo = EchoServer::start(&bed, "127.0.0.1:9000");
    let service = Service::new(&bed, version, manner);
    service.configure(HOLD);
    let mut pids = vec![service.start()];
    let mut flows = vec![];
    for _ in 0..3 {
        flows.push(Flow::echoing(&bed, "127.0.0.1:8001"));
        pids.push(service.reload());
    }
    for f in &mut flows {
        f.prove();
    }
    println!(
        "{pids:?} {:?}\n{}",
        bed.pids_of("haproxy"),
        bed.shell("ss -tlnp; ss -xlp; ps -ef --forest")
    );
    for p in &pids {
        assert!(bed.is_alive(*p));
        println!("{:?}", std::fs::read_link(bed.procfs().join(p.to_string()).join("exe")));
    }
    drop(flows);
    for p in &pids[..3] {
        await_true("gone", || !bed.is_alive(*p));
    }
}
