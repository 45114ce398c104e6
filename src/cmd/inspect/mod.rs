//! `inspect`: the state of this host, once or repeatedly.

mod port;

use std::io::{IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use super::{ANOMALIES, BLIND, Error, OK};
use crate::cli::{Inspect, Options, Output};
use crate::judge::cause;
use crate::judge::verdict::Verdict;
use crate::model::Snapshot;
use crate::policy::Ignore;
use crate::report::text::Paint;
use crate::report::{self, causes, table};
use crate::watch::Watcher;

/// The time between the two samples that an anomaly must be in.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);
/// Moves the cursor home and clears the screen below it.
const REPAINT: &str = "\x1b[H\x1b[2J";

/// Samples twice and prints the state; with `--watch` it repeats that until it is interrupted.
pub fn run(options: &Options, inspect: &Inspect) -> Result<u8, Error> {
    let config = super::load(options.config_file.as_deref())?;
    let mut watcher = Watcher::new(super::paths(options), config)?;
    watcher.look();
    let terminal = std::io::stdout().is_terminal();
    loop {
        thread::sleep(BETWEEN_SAMPLES);
        let (snapshot, mut verdict) = watcher.observe();
        choose(inspect, &mut verdict)?;
        let (mut answer, blind) = answer(options, inspect, &mut watcher, &snapshot, &verdict);
        if inspect.watch && terminal {
            answer.insert_str(0, REPAINT);
        }
        let mut stdout = std::io::stdout();
        stdout.write_all(answer.as_bytes())?;
        stdout.flush()?;
        if inspect.watch {
            continue;
        }
        if inspect.output == Output::Json {
            for entry in &verdict.unreadable {
                let (what, reason) = (entry.what.as_str(), &entry.reason);
                eprintln!("could not read {what} of {}: {reason}", entry.subject);
            }
        }
        let anomalies = report::has_anomalies(&verdict, watcher.policy());
        return Ok(if anomalies { ANOMALIES } else { seen(&verdict, blind) });
    }
}

/// Returns whether enough could be read. An unknown state of a service is not enough.
fn seen(verdict: &Verdict, blind: bool) -> u8 {
    let in_doubt = verdict.services.iter().any(|haproxy| haproxy.up.is_none());
    if verdict.unreadable.is_empty() && !blind && !in_doubt { OK } else { BLIND }
}

/// Removes the services and anomalies that were not asked for.
fn choose(inspect: &Inspect, verdict: &mut Verdict) -> Result<(), Error> {
    if let Some(name) = &inspect.haproxy {
        let names: Vec<_> = verdict.services.iter().map(|h| h.name.clone()).collect();
        if !names.contains(name) {
            return Err(Error::UnknownHaproxy { name: name.clone(), names });
        }
        verdict.services.retain(|haproxy| haproxy.name == *name);
        let is_of = |ignore: &Ignore| ignore.haproxy.as_ref().is_none_or(|owner| owner == name);
        verdict.expired_ignores.retain(is_of);
    }
    if let Some(port) = inspect.port {
        for haproxy in &mut verdict.services {
            cause::keep(haproxy, |anomaly| {
                anomaly.subject.port.as_ref().is_some_and(|subject| subject.port == port)
            });
        }
    }
    Ok(())
}

/// Returns the answer, and whether a use of the port could not be read.
fn answer(
    options: &Options,
    inspect: &Inspect,
    watcher: &mut Watcher,
    snapshot: &Snapshot,
    verdict: &Verdict,
) -> (String, bool) {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (paint, width) = (Paint { colour }, super::terminal_width());
    if let Some(number) = inspect.port {
        let report = port::report(options, watcher, snapshot, verdict, number);
        let blind = !report.unseen.is_empty();
        let text = match inspect.output {
            Output::Json => format!("{:#}\n", report::port::json(&report)),
            Output::Table => {
                let causes = causes::causes(verdict, paint, width);
                causes + &report::port::text(&report, paint, width)
            }
        };
        return (text, blind);
    }
    let text = match inspect.output {
        Output::Json => format!("{:#}\n", report::inspect_json(verdict)),
        Output::Table => table::table(verdict, paint, width),
    };
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Film, actor};

    #[test]
    fn an_unknown_state_is_not_ok() {
        let mut film = Film::default();
        let serving = actor(10, 100, "haproxy -D -f /a.cfg -p /run/p").tcp(80, 1);
        let verdict = film.settle(1000.0, &[serving]);
        assert_eq!((seen(&verdict, false), seen(&verdict, true)), (OK, BLIND));
        assert_eq!(seen(&film.see_torn(1035.0, &[]), false), BLIND);
    }
}
