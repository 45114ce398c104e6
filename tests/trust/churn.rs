//! A user who starts and ends processes all the time hides no outage of root's services.

use std::time::Duration;

use super::other_user::{GLOBAL, OtherUser};
use crate::support::*;

/// A program that calls itself haproxy and keeps starting copies of itself, which end at once.
const CHURNS: &str = "
import os, time
print('churning', flush=True)
while True:
    for number in range(20):
        if os.fork() == 0:
            os.setsid()
            time.sleep(0.02)
            os._exit(0)
    for number in range(20):
        os.wait()
";

#[test]
fn processes_that_come_and_go_hide_no_outage_of_roots() {
    let bed = Bed::new();
    let service = Service::named(&bed, Version::V3_2, Manner::Daemon, "prod");
    service.configure_raw(&format!("{GLOBAL}    bind 127.0.0.1:8001\n")).start();
    let exporter = Exporter::configured(&bed, "defaults: {stale_grace: 1s}\n");
    let up = |page: &Page| page.value("haproxy_host_up", &[("haproxy", "haproxy")]);
    exporter.await_page("root's service", |page| up(page) == Some(1.0));

    let user = OtherUser::new(&bed, Version::V3_2);
    user.directory("churn");
    user.write("churn/sitecustomize.py", CHURNS);
    let library = user.path("churn").display().to_string();
    let churning: Vec<Running> = (0..4)
        .map(|number| {
            let mut command = user.impostor(&[("PYTHONPATH", library.clone())]);
            command.args(["-D", "-f", &user.path(&format!("{number}.cfg")).display().to_string()]);
            bed.start(command, &format!("churn{number}.log"))
        })
        .collect();
    for one in &churning {
        await_within(Duration::from_secs(60), "churning", || {
            one.log().contains("churning").then_some(())
        });
    }
    exporter.await_samples(3);
    bed.kill("KILL", service.daemon().unwrap());
    exporter.await_page("the outage", |page| up(page) == Some(0.0));
    // It stays known, however often processes come and go while a sample is taken.
    let recorder = exporter.record();
    exporter.await_samples(20);
    recorder.never("that it may be up", |page| up(page) != Some(0.0));
    drop(recorder);
    service.start();
    exporter.await_page("its end", |page| up(page) == Some(1.0));
    drop(churning);
}
