//! `inspect`: the state of this host, once or repeatedly.

mod port;
mod screen;
mod textfile;

use std::io::{IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use super::{ANOMALIES, BLIND, Error, OK};
use crate::cli::{Inspect, Output};
use crate::judge::cause;
use crate::judge::changes::Follower;
use crate::judge::verdict::Verdict;
use crate::model::Snapshot;
use crate::policy::Ignore;
use crate::report::marks::Marks;
use crate::report::text::{Paint, unread_line};
use crate::report::{self, causes, table};
use crate::watch::Watcher;

/// The time between the two samples that an anomaly must be in.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);

/// Samples twice and prints the state; with `--watch` it repeats that until it is interrupted. On a
/// terminal it then draws each state over the last one and marks what has changed.
pub fn run(inspect: &Inspect) -> Result<u8, Error> {
    if inspect.output == Output::Prometheus {
        textfile::refuse_parts(inspect)?;
    }
    let config = super::load(inspect.options.config_file.as_deref())?;
    let mut watcher = Watcher::new(super::paths(&inspect.options), config)?;
    watcher.look();
    let redraws = inspect.watch && std::io::stdout().is_terminal();
    let (mut follower, mut drawn) = (Follower::with_pending(), None);
    loop {
        thread::sleep(BETWEEN_SAMPLES);
        let (snapshot, mut verdict) = watcher.observe();
        choose(inspect, &mut verdict)?;
        let changes = follower.follow(&verdict);
        let marks = if redraws { Marks::since(drawn.as_ref(), &changes) } else { Marks::default() };
        let (answer, blind) = answer(inspect, &mut watcher, (&snapshot, &verdict), &marks);
        // JSON is never cut.
        let rows = || super::terminal_rows().filter(|_| inspect.output == Output::Table);
        let answer = if redraws { screen::redraw(&answer, rows()) } else { answer };
        let mut stdout = std::io::stdout();
        stdout.write_all(answer.as_bytes())?;
        stdout.flush()?;
        if inspect.watch {
            drawn = Some(verdict);
            continue;
        }
        if inspect.output == Output::Prometheus {
            // The page itself says what is wrong and what could not be read.
            return Ok(OK);
        }
        if inspect.output == Output::Json {
            for entry in &verdict.unreadable {
                eprintln!("{}", unread_line(entry));
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
    inspect: &Inspect,
    watcher: &mut Watcher,
    (snapshot, verdict): (&Snapshot, &Verdict),
    marks: &Marks<'_>,
) -> (String, bool) {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A line that fills the last column could not be cleared behind its end.
    let (paint, width) = (Paint { colour }, super::terminal_width() - usize::from(inspect.watch));
    if let Some(number) = inspect.port {
        let report = port::report(&inspect.options.procfs, watcher, snapshot, verdict, number);
        let blind = !report.unseen.is_empty();
        let text = match inspect.output {
            Output::Json => format!("{:#}\n", report::port::json(&report)),
            Output::Table | Output::Prometheus => {
                let causes = causes::causes(verdict, marks, paint, width);
                causes
                    + &causes::ended(marks, paint, width)
                    + &report::port::text(&report, paint, width)
            }
        };
        return (text, blind);
    }
    let text = match inspect.output {
        Output::Json => format!("{:#}\n", report::inspect_json(verdict)),
        Output::Table => table::table(verdict, marks, paint, width),
        Output::Prometheus => textfile::page(verdict, watcher.policy()),
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
