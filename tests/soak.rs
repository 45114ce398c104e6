//! Many real reloads under the exporter: afterwards it is as it was. `benches/run soak` makes a
//! thousand of them, and then also holds its memory to be flat; here it is a few.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // values on a page are small whole numbers

mod support;

use std::collections::{BTreeSet, VecDeque};

use support::*;

/// Each of the ports has its frontend, which holds a connection without a server behind it.
const PORTS: std::ops::Range<u16> = 20_000..20_050;
/// One reload in this many leaves a process behind that drains …
const DRAINING_EVERY: usize = 10;
/// … until this many others have come after it.
const DRAINING_AT_ONCE: usize = 3;
const ADDRESS: &str = "127.0.0.1:20000";
const MIB: f64 = 1_048_576.0;
/// A thousand reloads that each left a page of 4 KiB behind would be four times as much.
const MAY_GROW: f64 = MIB;

#[test]
fn reloads_leave_nothing_behind() {
    let reloads = std::env::var("SOAK_RELOADS").map_or(30, |number| number.parse().unwrap());
    let bed = Bed::new();
    let service = Service::new(&bed, Version::V2_6, Manner::DaemonTransfer);
    service.configure(&frontends());
    service.start();
    let exporter = Exporter::start(&bed);
    let before = exporter.await_samples(3);
    let series = series_of(&before);

    let resident: Vec<f64> = reload_again_and_again(&bed, &service, &exporter, reloads);

    let after = exporter.await_page("only the last generation", |page| {
        page.is("haproxy_host_generations", &[], 1.0) && page.anomalies_are(&[])
    });
    let counted = after.sum("haproxy_host_reloads_total", &[("result", "success")]);
    println!("{reloads} reloads, of which the exporter counted {counted}");
    assert_eq!(counted, count(reloads), "reloads counted");
    let grown: BTreeSet<String> = series_of(&after).difference(&series).cloned().collect();
    let known = ["haproxy_host_last_reload_timestamp_seconds"].map(str::to_owned);
    assert_eq!(grown, known.into(), "series that only the reloads brought");
    for name in ["process_open_fds", "process_threads"] {
        let [before, after] = [&before, &after].map(|page| page.value(name, &[]).unwrap());
        assert!(after <= before, "{name}: {before} before, {after} after");
    }
    tell_and_judge_memory(&resident);
}

fn series_of(page: &Page) -> BTreeSet<String> {
    page.samples.iter().map(|sample| sample.name.clone()).collect()
}

fn frontends() -> String {
    let frontend = |port| {
        format!(
            "frontend f{port}\n    mode tcp\n    bind 127.0.0.1:{port}\n    \
             tcp-request inspect-delay 1h\n    \
             tcp-request content accept if {{ req.len gt 0 }}\n"
        )
    };
    PORTS.map(frontend).collect::<Vec<_>>().concat()
}

/// Gives the bytes the exporter had resident after each reload, all of which it saw.
fn reload_again_and_again(
    bed: &Bed,
    service: &Service,
    exporter: &Exporter,
    reloads: usize,
) -> Vec<f64> {
    let start = |page: &Page| page.value("haproxy_host_generation_start_timestamp_seconds", &[]);
    let mut flows = VecDeque::new();
    let reload = |number| {
        if number % DRAINING_EVERY == 0 {
            flows.push_back(Flow::held_by(bed, ADDRESS, service.serving()));
            if flows.len() > DRAINING_AT_ONCE {
                flows.pop_front();
            }
        }
        let last = start(&exporter.page());
        service.reload();
        let page = exporter.await_page("the reload", |page| start(page) > last);
        page.value("process_resident_memory_bytes", &[]).unwrap()
    };
    (0..reloads).map(reload).collect()
}

/// Its first quarter is where a process finds its size.
fn tell_and_judge_memory(resident: &[f64]) {
    let quarter = resident.len().div_ceil(4);
    let first = median(&resident[..quarter]);
    let last = median(&resident[resident.len() - quarter..]);
    println!(
        "resident, median of the first quarter {:.2} MiB, of the last {:.2} MiB",
        first / MIB,
        last / MIB,
    );
    assert!(last - first <= MAY_GROW, "more than {:.2} MiB of growth", MAY_GROW / MIB);
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}
