//! The pages of the last sample, and the settings they are served with.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use maud::Markup;
use tokio::sync::watch;

use crate::judge::verdict::Verdict;
use crate::metrics::Exposition;
use crate::report::events::Events;
use crate::report::page::filter::Filter;
use crate::report::page::landing;
use crate::report::state_json;

/// The pages of one sample.
#[derive(Debug)]
pub struct Page {
    /// The encoded metrics, as parts to be sent one after another.
    pub metrics: Vec<Bytes>,
    /// When the page was made, to know the age of the sample.
    pub rendered: Instant,
    verdict: Verdict,
    events: Events,
    /// The maximum number of entries shown of the services of users other than root.
    most_entries: usize,
    telemetry_path: String,
    metrics_gzip: OnceLock<Bytes>,
    person: OnceLock<Markup>,
    state: OnceLock<Bytes>,
}

impl Page {
    /// Takes the results of a sample. Each other form of the page is rendered at the first request
    /// for it and kept for the next ones, because most samples are never asked for all forms.
    /// `most_entries` limits how much the JSON shows of the services of users other than root.
    #[must_use]
    pub fn new(
        metrics: Exposition,
        verdict: Verdict,
        events: Events,
        most_entries: usize,
        telemetry_path: &str,
    ) -> Page {
        Page {
            metrics: metrics.metrics,
            rendered: Instant::now(),
            verdict,
            events,
            most_entries,
            telemetry_path: telemetry_path.to_owned(),
            metrics_gzip: OnceLock::new(),
            person: OnceLock::new(),
            state: OnceLock::new(),
        }
    }

    /// Returns the compressed metrics.
    pub fn metrics_gzip(&self) -> Bytes {
        self.metrics_gzip.get_or_init(|| gzip(&self.metrics)).clone()
    }

    /// Returns the content of the page for a person, without the age of the sample.
    pub fn person(&self) -> &Markup {
        self.person.get_or_init(|| self.filtered(&Filter::default()))
    }

    /// Renders the part of the page for a person that the filter takes. Nothing of it is kept, because
    /// a client can name filters without end.
    pub fn filtered(&self, filter: &Filter) -> Markup {
        landing::content(&self.verdict, &self.events, filter, &self.telemetry_path)
    }

    /// Returns the state as JSON, in the form of `inspect --output json`.
    pub fn state(&self) -> Bytes {
        let content = || state_json(&self.verdict, self.most_entries).to_string().into();
        self.state.get_or_init(content).clone()
    }
}

fn gzip(parts: &[Bytes]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = parts.iter().try_for_each(|part| encoder.write_all(part));
    written.and_then(|()| encoder.finish()).expect("a vector takes all writes").into()
}

/// The settings of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The path of the metrics.
    pub telemetry_path: String,
    /// The time between samples, to know whether samples have stopped coming.
    pub sample_interval: Duration,
    /// The most requests that are answered at once; 0 for no limit.
    pub max_requests: usize,
    /// `POST /-/reload` is served.
    pub enable_lifecycle: bool,
    /// The configuration file that a reload reads again.
    pub config_file: Option<PathBuf>,
}

impl Settings {
    /// The age at which a sample shows that samples have stopped coming.
    #[must_use]
    pub fn late_after(&self) -> Duration {
        self.sample_interval * 3 + Duration::from_secs(5)
    }
}

/// The last page; `None` before the first sample.
pub type LastPage = watch::Receiver<Option<Arc<Page>>>;
