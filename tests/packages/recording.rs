//! The first scrapes after an installation, recorded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::alerts::Scrape;
use super::machine::{EXPORTER, Machine, taken};
use super::support::{Page, text};

/// A drop-in of the exporter's unit.
pub const DROP_IN: &str = "/etc/systemd/system/haproxy-host-exporter.service.d";

/// The longest time from the start of the unit to a first scrape, in seconds.
const FIRST_SCRAPE: f64 = 10.0;

/// Installs a package and gives the first page, which comes in time. The exporter takes a sample twice a second.
#[track_caller]
pub fn installed(machine: &Machine, what: &str, install: &str) -> Page {
    machine.write(
        &format!("{DROP_IN}/interval.conf"),
        "[Service]\nEnvironment=HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL=500ms\n",
    );
    let begun = monotonic();
    let apt = machine.start_shell(install);
    let page = machine.await_page("a first scrape", |_| true);
    let answered = monotonic();
    let output = apt.wait_with_output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let microseconds = machine.property(EXPORTER, "ExecMainStartTimestampMonotonic");
    let started = microseconds.parse::<f64>().unwrap() / 1e6;
    let (of_apt, of_unit) = (answered - begun, answered - started);
    println!(
        "{what}: first scrape {of_apt:.1} s after apt-get began, {of_unit:.1} s after the unit"
    );
    assert!(begun < started && of_unit < FIRST_SCRAPE, "{what}: {of_unit} s after the unit");
    page
}

/// Records the page of each next sample until there are so many; no scrape fails.
#[track_caller]
pub fn record(machine: &Machine, scrapes: &mut Vec<Scrape>, count: usize) {
    while scrapes.len() < count {
        let last = scrapes.last().and_then(|scrape| scrape.page.as_ref()).map_or(0.0, taken);
        let time = now();
        let (status, body) = machine.scrape();
        assert_eq!(status, 200, "scrape {}: {body}", scrapes.len());
        let page = Page::parse(&body).unwrap();
        if taken(&page) > last {
            assert!(page.all("haproxy_host_unreadable", &[]).all(|sample| sample.value == 0.0));
            scrapes.push(Scrape { time, page: Some(page) });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The clock that systemd's times of a unit are of, in seconds.
fn monotonic() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Now, in seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
