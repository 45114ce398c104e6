//! What a sample leaves for the requests that follow, and how to serve it.

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
use crate::report::inspect_json;
use crate::report::page::landing;

/// What one sample leaves for the requests that follow.
#[derive(Debug)]
pub struct Page {
    /// The metrics, encoded: one part after another.
    pub metrics: Vec<Bytes>,
    /// When the sample was taken, to tell its age.
    pub rendered: Instant,
    verdict: Verdict,
    telemetry_path: String,
    metrics_gzip: OnceLock<Bytes>,
    person: OnceLock<Markup>,
    state: OnceLock<Bytes>,
}

impl Page {
    /// Takes what a sample left. What is made of it for one sort of request is made when the first
    /// such request comes, and kept for the ones after it.
    #[must_use]
    pub fn new(metrics: Exposition, verdict: Verdict, telemetry_path: &str) -> Page {
        Page {
            metrics: metrics.metrics,
            rendered: Instant::now(),
            verdict,
            telemetry_path: telemetry_path.to_owned(),
            metrics_gzip: OnceLock::new(),
            person: OnceLock::new(),
            state: OnceLock::new(),
        }
    }

    /// The metrics, compressed.
    pub fn metrics_gzip(&self) -> Bytes {
        self.metrics_gzip.get_or_init(|| gzip(&self.metrics)).clone()
    }

    /// The content of the page for a person, without the age of the sample. It is rendered at the
    /// first request for it, because most samples are never looked at.
    pub fn person(&self) -> &Markup {
        self.person.get_or_init(|| landing::content(&self.verdict, &self.telemetry_path))
    }

    /// The state as JSON, in the form of `inspect --output json`. Rendered at the first request for
    /// it, because most samples are never asked for theirs.
    pub fn state(&self) -> Bytes {
        let content = || inspect_json(&self.verdict).to_string().into();
        self.state.get_or_init(content).clone()
    }
}

fn gzip(parts: &[Bytes]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = parts.iter().try_for_each(|part| encoder.write_all(part));
    written.and_then(|()| encoder.finish()).expect("a vector takes all writes").into()
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Time between samples, to tell whether they still come.
    pub sample_interval: Duration,
    /// Requests at once; 0 for any number.
    pub max_requests: usize,
    /// `POST /-/reload` may be asked.
    pub enable_lifecycle: bool,
    /// The configuration, to be read again.
    pub config_file: Option<PathBuf>,
}

impl Settings {
    /// A sample older than this is late: samples have stopped coming.
    #[must_use]
    pub fn late_after(&self) -> Duration {
        self.sample_interval * 3 + Duration::from_secs(5)
    }
}

/// The last page; `None` before the first sample.
pub type LastPage = watch::Receiver<Option<Arc<Page>>>;
