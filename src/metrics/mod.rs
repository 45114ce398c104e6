//! Renders a verdict as the page of metrics that Prometheus scrapes.

mod bound;
pub mod catalogue;
mod families;
mod family;
mod reap;
mod services;

use std::collections::BTreeMap;

pub use self::bound::Limits;
use self::catalogue as row;
pub use self::families::Exposition;
use self::families::{Families, count, number};
use crate::backup::state::State;
use crate::build_info;
use crate::judge::verdict::Verdict;
use crate::model::{OwnProcess, UnixSeconds, What};
use crate::reap::state::State as ReapState;

/// Facts about the exporter itself.
#[derive(Debug, Clone, Default)]
pub struct Exporter {
    /// Its own process; `None` if that could not be read.
    pub own: Option<OwnProcess>,
    /// The last attempt to read its configuration succeeded.
    pub config_successful: bool,
    /// When its configuration was last read successfully.
    pub config_success_timestamp: UnixSeconds,
    /// The state of `reap`; `None` if there is none that can be trusted.
    pub reap: Option<ReapState>,
    /// What is known of the backups of each service.
    pub backups: BTreeMap<String, State>,
}

/// Renders page after page and reuses the text that two pages have in common.
#[derive(Debug, Default)]
pub struct Renderer {
    page: Families,
}

impl Renderer {
    /// Renders a page in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&mut self, verdict: &Verdict, exporter: &Exporter, limits: Limits) -> Exposition {
        let page = &mut self.page;
        page.begin();
        let living = verdict.services.iter().filter(|service| !service.is_gone()).count();
        // Where processes are hidden, finding none means nothing.
        if living > 0 || verdict.unreadable.iter().all(|entry| entry.what != What::Process) {
            page.add(&row::HAPROXYS, &[], count(living));
        }
        bound::add_services(page, &verdict.services, limits);
        let dropped: Vec<_> = page.all_dropped().collect();
        for (metric, dropped) in dropped {
            page.add(&row::SERIES_DROPPED, &[metric], count(dropped));
        }
        for what in What::ALL {
            let unread = verdict.unreadable.iter().filter(|entry| entry.what == what).count();
            page.add(&row::UNREADABLE, &[what.as_str()], count(unread));
        }
        for run in &verdict.collectors {
            page.add(&row::SAMPLE_DURATION, &[run.collector], run.duration_seconds);
            page.add(&row::SAMPLE_SUCCESS, &[run.collector], f64::from(run.success));
        }
        page.add(&row::SAMPLE_TIMESTAMP, &[], verdict.taken);
        if let Some(state) = &exporter.reap {
            reap::add(page, state);
        }
        add_backups(page, verdict, exporter);
        add_exporter(page, exporter);
        page.encode()
    }
}

#[allow(clippy::cast_precision_loss)] // seconds of this era fit
fn add_backups(page: &mut Families, verdict: &Verdict, exporter: &Exporter) {
    for service in &verdict.services {
        let Some(state) = exporter.backups.get(&service.name) else { continue };
        let name = [service.name.as_str()];
        let seconds = |time: Option<i64>| time.map(|time| time as f64);
        page.add_known(&row::BACKUP_LAST_SUCCESS, &name, seconds(state.last_success));
        page.add_known(&row::BACKUP_LAST_VERIFIED, &name, seconds(state.last_verified));
        page.add_known(&row::BACKUP_CONFIG_DIFFERS, &name, state.differs.map(f64::from));
    }
}

fn add_exporter(page: &mut Families, exporter: &Exporter) {
    page.add(&row::BUILD_INFO, &build_info::LABELS, 1.0);
    page.add(&row::CONFIG_RELOAD_SUCCESSFUL, &[], f64::from(exporter.config_successful));
    page.add(&row::CONFIG_RELOAD_TIMESTAMP, &[], exporter.config_success_timestamp);
    let Some(own) = exporter.own else { return };
    page.add(&row::PROCESS_CPU, &[], own.cpu_seconds);
    page.add(&row::PROCESS_OPEN_FDS, &[], number(own.open_fds));
    page.add_known(&row::PROCESS_MAX_FDS, &[], own.max_fds.map(number));
    page.add(&row::PROCESS_VIRTUAL_MEMORY, &[], number(own.virtual_memory_bytes));
    page.add(&row::PROCESS_RESIDENT_MEMORY, &[], number(own.resident_memory_bytes));
    page.add(&row::PROCESS_START, &[], own.start_timestamp_seconds);
    page.add(&row::PROCESS_THREADS, &[], number(own.threads));
}
