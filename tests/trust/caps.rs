//! However many processes, ports, names and bytes another user has, root's services are watched as
//! before, in a page and in a memory that have bounds.

use std::time::Duration;

use super::other_user::{GLOBAL, OtherUser};
use super::series::{lasting, report_difference};
use crate::support::*;

/// `MemoryMax=` of the shipped unit.
const MOST_MEBIBYTES: u64 = 512;
/// The bound of the page, `metrics.max_series`.
const MOST_SERIES: usize = 5000;

/// Many listeners under long names, large arguments, large environments, and many configurations that
/// declare all ports of 200 addresses and are written again and again.
const MANY: &str = "
home = os.environ['HOME_OF_USER']
for number in range(40):
    name = f'{home}/' + 'x' * 195 + f'{number:04}.pid'
    impostor(['-D', '-p', name, '-f', f'{home}/absent{number}.cfg'], {'LISTEN': '60'})
for number in range(6):
    impostor(['-D', '-f', f'{home}/b{number}.cfg'] + ['-q'] * 100_000, {'LISTEN': '1'})
for number in range(6):
    many = {f'V{n}': '' for n in range(60_000)}
    impostor(['-D', '-f', f'{home}/c{number}.cfg'], {'LISTEN': '1', **many})
for number in range(2):
    impostor(['-D', '-f', f'{home}/ranges{number}.cfg'], {'LISTEN': '1'})
for number in range(6):
    impostor(['-D', '-f', f'{home}/lines{number}.cfg'], {'LISTEN': '1'})
";

#[test]
fn the_many_processes_of_another_user_cost_no_service_of_roots() {
    let bed = Bed::new();
    let mut services = Vec::new();
    for (number, (name, manner)) in
        [("prod", Manner::Daemon), ("other", Manner::Master)].into_iter().enumerate()
    {
        let service = Service::named(&bed, Version::V3_2, manner, name);
        service.configure_raw(&format!("{GLOBAL}    bind 127.0.0.1:{}\n", 8001 + number)).start();
        services.push(service);
    }
    let pidfile = services[0].pidfile();
    let yaml = format!(
        "defaults: {{stale_grace: 1s}}\nhaproxys: [{{name: prod, match: {{pidfile: {}}}}}]\n\
         metrics: {{max_series: {MOST_SERIES}}}\n",
        pidfile.display()
    );
    let exporter = Exporter::configured(&bed, &yaml);
    exporter.await_page("root's services", |page| page.sum("haproxy_host_up", &[]) == 2.0);
    let page = exporter.await_samples(9);
    let haproxys = page.haproxys();
    let own = |page: &Page| {
        let mut series = lasting(page, &haproxys);
        series.retain(|series, _| series.contains("haproxy="));
        series
    };
    let before = own(&page);
    let recorder = exporter.record();

    let user = OtherUser::new(&bed, Version::V3_2);
    let write = || {
        for number in 0..2 {
            let ranges: Vec<String> =
                (1..=200).map(|n| format!("    bind 127.0.{number}.{n}:1-65535\n")).collect();
            user.write(&format!("ranges{number}.cfg"), &format!("{GLOBAL}{}", ranges.concat()));
        }
        for number in 0..6 {
            let lines = "    bind 127.0.0.1:1-2\n".repeat(20_000);
            user.write(&format!("lines{number}.cfg"), &format!("{GLOBAL}{lines}"));
        }
    };
    write();
    let mut many = user.impostors(MANY);
    many.env("HOME_OF_USER", user.path(""));
    let mut many = bed.start(many, "many.log");
    let patience = Duration::from_secs(180);
    await_within(patience, "the impostors", || {
        assert!(!many.has_ended(), "{}", many.log());
        many.log().contains("impostors started").then_some(())
    });
    let await_page = |what: &str, condition: &dyn Fn(&Page) -> bool| {
        await_within(patience, what, || Some(exporter.page()).filter(|page| condition(page)))
    };
    let taken = |page: &Page| page.value("haproxy_host_sample_timestamp_seconds", &[]);
    // Those with large arguments and environments are not all read.
    await_page("most of them", &|page| page.value("haproxy_host_haproxys", &[]) >= Some(50.0));
    for _ in 0..2 {
        write();
        let last = taken(&exporter.page());
        await_page("a sample more", &|page| taken(page) > last);
    }
    let page = exporter.page();
    recorder.never("another picture of root's services", |page| {
        let now = own(page);
        report_difference(&before, &now);
        now != before
    });
    drop(recorder);

    assert!(page.samples.len() <= MOST_SERIES + 100, "{} series", page.samples.len());
    assert!(page.sum("haproxy_host_series_dropped", &[]) > 1000.0);
    for sample in &page.samples {
        let name = sample.label("haproxy");
        assert!(name.chars().count() <= 64, "{sample}");
        assert!(name.is_empty() || haproxys.contains(name) || name.contains("@65534"), "{sample}");
        assert!(sample.labels.values().all(|value| value.chars().count() <= 256), "{sample}");
    }
    for path in ["/", "/state.json"] {
        assert_eq!(exporter.get(path).unwrap().status, 200, "{path}");
    }
    let peak = peak_mebibytes(&bed, exporter.running.pid());
    assert!(peak < MOST_MEBIBYTES, "{peak} MiB");

    // An outage among all these is seen.
    for service in &services {
        bed.kill("KILL", service.daemon().unwrap());
    }
    await_page("two outages", &|page| {
        let down = page.all("haproxy_host_up", &[]).filter(|up| up.value == 0.0);
        down.filter(|up| haproxys.contains(up.label("haproxy"))).count() == 2
    });
}

/// The most memory that a process of the bed has had (`VmHWM`).
fn peak_mebibytes(bed: &Bed, pid: i32) -> u64 {
    let status = bed.process_file(pid, "status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}
