//! `inspect --output prometheus`: the metrics of one look at the host, for the textfile collector of
//! node_exporter, on hosts that may open no port.

use crate::cli::Inspect;
use crate::cmd::Error;
use crate::judge::verdict::Verdict;
use crate::metrics::catalogue as row;
use crate::metrics::catalogue::Row;
use crate::metrics::{Exporter, Limits, Renderer};
use crate::policy::Policy;

/// What one look cannot know, because it counts what an exporter sees while it runs.
const ONLY_WHILE_WATCHING: [&Row; 3] =
    [&row::ANOMALIES_OBSERVED, &row::CONFIG_RELOAD_SUCCESSFUL, &row::CONFIG_RELOAD_TIMESTAMP];

/// Refuses the flags that would make a part of the host look like the whole.
pub fn refuse_parts(inspect: &Inspect) -> Result<(), Error> {
    let flags = [
        ("--haproxy", inspect.haproxy.is_some()),
        ("--port", inspect.port.is_some()),
        ("--watch", inspect.watch),
    ];
    match flags.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Error::OnlyWhole { flag }),
        None => Ok(()),
    }
}

/// The page. It has no series about the process that writes it: node_exporter has series of these names
/// about itself.
pub fn page(verdict: &Verdict, policy: &Policy) -> String {
    let exporter = Exporter::default();
    let page = Renderer::default().render(verdict, &exporter, Limits::of(policy));
    page.without(&ONLY_WHILE_WATCHING).text()
}
