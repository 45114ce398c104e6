//! The verdict for a person at a terminal: a sentence, the causes of what is wrong, then for each
//! service its processes by generation and its ports.

use std::fmt::Write as _;

use super::causes::{causes, ended, headline};
use super::expired;
use super::marks::{Marks, port_rows};
use super::text::{Paint, Tint, age, by_state, counted, lines, list, more, printable, wrap};
use crate::haproxy::lineage::generations::Generation;
use crate::judge::verdict::{PortKey, ProcessView, ServiceVerdict, StaleState, Verdict};
use crate::model::{Unreadable, numbers};

/// The longest table of processes or ports of one service. A pile-up may have thousands.
const MAX_ROWS: usize = 40;
/// The number of pids of a port that its row names before it counts the rest.
const MAX_PIDS: usize = 3;

/// What is said where no HAProxy was found.
const NONE_FOUND: &str = "no HAProxy runs on this host; to find one whose program has another name, write its \
                          pidfile into the exporter's configuration (haproxys: match: pidfile)";

/// What is said where something could not be read.
const NONE_SEEN: &str = "no HAProxy can be seen; whether one runs here is not known";

/// With more services than this, those that are well take one line each.
const MOST_IN_FULL: usize = 10;

/// The whole report, in lines of at most `width` characters unless a word is longer. A `*` precedes the
/// lines that are marked.
#[must_use]
pub fn table(verdict: &Verdict, marks: &Marks<'_>, paint: Paint, width: usize) -> String {
    let mut text = String::new();
    if verdict.services.is_empty() {
        let said = if verdict.unreadable.is_empty() { NONE_FOUND } else { NONE_SEEN };
        lines(&mut text, "", said, width);
    } else {
        let (tint, sentence) = headline(verdict);
        for line in wrap(&sentence, width) {
            let _ = writeln!(text, "{}", paint.tint(tint, &line));
        }
        let causes = causes(verdict, marks, paint, width);
        if !causes.is_empty() {
            let _ = write!(text, "\n{causes}");
        }
    }
    if !marks.ended.is_empty() {
        let _ = write!(text, "\n{}", ended(marks, paint, width));
    }
    let is_well = |one: &ServiceVerdict| one.up == Some(true) && one.causes.is_empty();
    let folds = verdict.services.len() > MOST_IN_FULL;
    let (well, ill): (Vec<_>, Vec<_>) =
        verdict.services.iter().partition(|one| folds && is_well(one));
    for one in ill {
        text.push('\n');
        service(&mut text, one, (marks, verdict.taken), paint, width);
    }
    if !well.is_empty() {
        let count = counted(well.len(), "haproxy is well", "haproxys are well");
        let _ = writeln!(text, "\n{count} (one in full: --haproxy NAME):");
        let names: Vec<String> = well.iter().map(|one| printable(&one.name)).collect();
        lines(&mut text, "  ", &names.join(", "), width);
    }
    expired_ignores(&mut text, verdict, paint, width);
    unreadable(&mut text, &verdict.unreadable, paint, width);
    text
}

fn service(
    text: &mut String,
    service: &ServiceVerdict,
    (marks, now): (&Marks<'_>, f64),
    paint: Paint,
    width: usize,
) {
    let (up, tint) = match service.up {
        Some(true) => ("up", Tint::Good),
        Some(false) => ("down", Tint::Bad),
        None => ("could not be seen", Tint::Poor),
    };
    let shown = service.identity.shown();
    let named =
        |name: &str, text: Option<String>| text.map(|text| format!("{name} {}", printable(&text)));
    let mut words: Vec<String> = Vec::new();
    words.extend(Some(shown.mode.to_owned()).filter(|mode| !mode.is_empty()));
    words.extend(named("version", shown.version));
    words.extend(named("configuration", shown.config));
    words.extend(named("pidfile", shown.pidfile));
    let name = paint.tint(Tint::Head, &format!("haproxy {}", printable(&service.name)));
    let _ = writeln!(text, "{name}  {}", paint.tint(tint, up));
    if !words.is_empty() {
        lines(text, "  ", &words.join(", "), width);
    }
    processes(text, service, (marks, now), paint, width);
    ports(text, service, marks, paint, width);
}

fn processes(
    text: &mut String,
    service: &ServiceVerdict,
    (marks, now): (&Marks<'_>, f64),
    paint: Paint,
    width: usize,
) {
    let mut shown: Vec<&ProcessView> = service.processes.iter().collect();
    shown.sort_by_key(|process| (process.generation, process.role, process.id));
    let rows = shown.iter().take(MAX_ROWS).map(|process| {
        let tint = match process.state {
            Some(StaleState::Listening) => Some(Tint::Bad),
            Some(StaleState::Idle | StaleState::Zombie) => Some(Tint::Poor),
            _ if process.generation == Generation::Stale => Some(Tint::Faint),
            _ => None,
        };
        let superseded = process.superseded.map(|how| {
            let ago = age(now - how.since);
            format!("superseded {ago} ago by pid {} ({})", how.by.pid, how.proof.as_str())
        });
        let connections = process.connections.filter(|_| process.state.is_some());
        let connections = connections.map(|counts| by_state(&counts, "no connections"));
        let cells = vec![
            process.id.pid.to_string(),
            process.role.as_str().to_owned(),
            process.generation.as_str().to_owned(),
            process.state.map_or("", StaleState::as_str).to_owned(),
            age(now - process.started),
            [superseded, connections].into_iter().flatten().collect::<Vec<_>>().join(", "),
        ];
        (marks.process(service, process), tint, cells)
    });
    if !shown.is_empty() {
        let heads = ["PID", "ROLE", "GENERATION", "STATE", "AGE", ""];
        columns(text, &heads, rows, paint, width);
    }
    count_rest(text, shown.len(), MAX_ROWS, "processes");
}

fn ports(
    text: &mut String,
    service: &ServiceVerdict,
    marks: &Marks<'_>,
    paint: Paint,
    width: usize,
) {
    let before = marks.port_rows(service);
    let groups = port_rows(service);
    let count = groups.len();
    let rows = groups.into_iter().take(MAX_ROWS).map(|group| {
        let is_marked = before.as_ref().is_some_and(|before| !before.contains(&group));
        let PortKey { protocol, address, interface, netns, .. } = group.first;
        let (generation, pids) = group.common;
        let mut place = address.to_string();
        if !interface.is_empty() {
            let _ = write!(place, "%{}", printable(interface));
        }
        if !netns.is_empty() {
            let _ = write!(place, " netns {}", printable(netns));
        }
        let stale = generation == Generation::Stale;
        let numbers = numbers::list(&group.ranges).replace(',', " ");
        let cells = vec![
            protocol.as_str().to_owned(),
            place,
            generation.as_str().to_owned(),
            shortened(pids),
            numbers,
        ];
        (is_marked, stale.then_some(Tint::Bad), cells)
    });
    if count > 0 {
        let heads = ["PROTO", "ADDRESS", "GENERATION", "PIDS", "PORTS"];
        columns(text, &heads, rows, paint, width);
    }
    count_rest(text, count, MAX_ROWS, "groups of ports");
}

fn shortened(pids: &[i32]) -> String {
    let shown = list(pids.get(..MAX_PIDS).unwrap_or(pids), " ");
    let more = more(pids.len(), MAX_PIDS, "");
    more.map_or_else(|| shown.clone(), |more| format!("{shown} {more}"))
}

/// Counts the rows that a table leaves out, below it.
pub(super) fn count_rest(text: &mut String, count: usize, limit: usize, rows: &str) {
    if let Some(more) = more(count, limit, rows) {
        let _ = writeln!(text, "  {more}");
    }
}

fn expired_ignores(text: &mut String, verdict: &Verdict, paint: Paint, width: usize) {
    for ignore in &verdict.expired_ignores {
        text.push('\n');
        for line in wrap(&expired::line(ignore, verdict.taken), width) {
            let _ = writeln!(text, "{}", paint.tint(Tint::Poor, &line));
        }
    }
}

fn unreadable(text: &mut String, entries: &[Unreadable], paint: Paint, width: usize) {
    if entries.is_empty() {
        return;
    }
    let count = counted(entries.len(), "thing", "things");
    let head = format!("\n{count} could not be read, so this is incomplete:");
    let _ = writeln!(text, "{}", paint.tint(Tint::Poor, &head));
    for entry in entries.iter().take(MAX_ROWS) {
        let words = format!("{} of {}: {}", entry.what.as_str(), entry.subject, entry.reason);
        lines(text, "  ", &printable(&words), width);
    }
    count_rest(text, entries.len(), MAX_ROWS, "");
}

/// Writes rows in columns as wide as their widest cell, each row in its colour. A `*` precedes the rows that
/// are marked. A last cell that does not fit continues below its row.
pub(super) fn columns(
    text: &mut String,
    heads: &[&str],
    rows: impl Iterator<Item = (bool, Option<Tint>, Vec<String>)>,
    paint: Paint,
    width: usize,
) {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<_> = std::iter::once((false, Some(Tint::Faint), heads)).chain(rows).collect();
    let mut widths: Vec<usize> = Vec::new();
    for (.., cells) in &rows {
        for (index, cell) in cells.iter().enumerate() {
            let wide = cell.chars().count();
            match widths.get_mut(index) {
                Some(width) => *width = wide.max(*width),
                None => widths.push(wide),
            }
        }
    }
    for (is_marked, tint, cells) in rows {
        let Some((last, firsts)) = cells.split_last() else { continue };
        let mut line = String::from(if is_marked { "* " } else { "  " });
        for (cell, width) in firsts.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let lead = line.chars().count();
        let mut below = Vec::new();
        if lead + last.chars().count() <= width {
            line.push_str(last);
        } else {
            below = wrap(last, width.saturating_sub(BELOW));
        }
        let tinted = |line: &str| match tint {
            Some(tint) => paint.tint(tint, line.trim_end()),
            None => line.trim_end().to_owned(),
        };
        let _ = writeln!(text, "{}", tinted(&line));
        for line in below {
            let _ = writeln!(text, "{}", tinted(&format!("{:BELOW$}{line}", "")));
        }
    }
}

/// The indent of a cell that continues below its row.
const BELOW: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::changes::Follower;
    use crate::model::ConnectionState::Established;
    use crate::policy::{Ignore, Policy, Until};
    use crate::stage::{Actor, Film, actor};

    const PLAIN: Paint = Paint { colour: false };

    #[test]
    fn causes_come_first_and_everything_fits() {
        let line = "haproxy -D -f /a.cfg -p /run/p";
        let stranded = || actor(10, 100, line).tcp(80, 1).tcp(443, 3);
        let new = || actor(11, 200, &format!("{line} -sf 9")).tcp(80, 2).tcp(81, 4).tcp(82, 5);
        let draining = || actor(9, 50, line).connected(9, Established);
        let mut film = Film::default();
        film.see(1000.0, &[draining(), stranded(), new()]);
        let verdict = film.see(1100.0, &[draining(), stranded(), new()]);
        for width in [80, 120] {
            let text = table(&verdict, &Marks::default(), PLAIN, width);
            assert!(text.starts_with("1 problem on 1 haproxy; p: "), "{text}");
            assert!(text.contains("\n\nCRITICAL port_s"), "{text}");
            assert!(text.contains("    →    kill -USR1 10"), "{text}");
            assert!(text.contains("  80-82 ") || text.contains("80-82"), "{text}");
            assert!(text.contains("draining") && text.contains("1 established"), "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{} > {width}: {line}", line.len());
            }
            assert!(!text.contains('\x1b'));
        }
        assert!(
            table(&verdict, &Marks::default(), Paint { colour: true }, 80)
                .contains("\x1b[1;31mCRITICAL")
        );
    }

    #[test]
    fn a_star_stands_before_what_changed_and_an_ended_cause_is_shown_once() {
        let line = "haproxy -D -f /a.cfg -p /run/p";
        let old = || actor(10, 100, line).tcp(80, 1);
        let new = || actor(11, 200, &format!("{line} -sf 9")).tcp(81, 2);
        let (mut film, mut follower) = (Film::default(), Follower::with_pending());
        let mut before: Option<Verdict> = None;
        let mut draw = |taken: f64, actors: &[Actor]| {
            let verdict = film.see(taken, actors);
            let changes = follower.follow(&verdict);
            let text = table(&verdict, &Marks::since(before.as_ref(), &changes), PLAIN, 80);
            before = Some(verdict);
            text
        };
        let starred = |text: &str| {
            let lines = text.lines().filter(|line| line.starts_with('*'));
            lines.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(starred(&draw(1000.0, &[old(), new()])), none);
        let fires = draw(1001.0, &[old(), new()]);
        assert_eq!(starred(&fires), ["CRITICAL"], "{fires}");
        assert!(!fires.contains("ENDED"), "{fires}");
        assert_eq!(starred(&draw(1030.0, &[old(), new()])), none);
        let ended = draw(1040.0, &[new(), actor(12, 1035, line).tcp(81, 2)]);
        let line = "ENDED port_stale_listener  p, haproxy stale pid 10, after 14m 0s\n";
        assert!(ended.contains(&format!("\n\n{line}\n")), "{ended}");
        assert!(starred(&ended).contains(&"12".to_owned()), "{ended}");
        assert!(ended.contains("\n* tcp "), "{ended}");
        assert!(!draw(1041.0, &[new()]).contains("ENDED"));
    }

    #[test]
    fn an_empty_host_is_told_how_to_find_a_program_of_another_name() {
        let verdict = Film::default().see(1000.0, &[]);
        let text = table(&verdict, &Marks::default(), PLAIN, 80);
        assert!(text.starts_with("no HAProxy runs on this host; "), "{text}");
    }

    #[test]
    fn an_expired_ignore_entry_is_one_line() {
        let until = Some(Until { end: 1000.0, written: "2027-03-01".to_owned() });
        let mut policy = Policy::default();
        policy.defaults.ignore = vec![Ignore { until, ..Ignore::default() }];
        let mut film = Film::with(policy);
        assert!(!table(&film.see(999.0, &[]), &Marks::default(), PLAIN, 100).contains("expired"));
        let text = table(&film.see(1004.0, &[]), &Marks::default(), PLAIN, 100);
        let line =
            "an ignore entry of defaults has expired: every kind, until 2027-03-01 (4s ago)\n";
        assert!(text.ends_with(&format!("\n\n{line}")), "{text}");
    }
}
