//! The causes for a person at a terminal: one line that sums them up, then each in a few lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::marks::Marks;
use super::ranges::{self, port_name};
use super::text::{Paint, Tint, age, counted, cut, lines, more, printable, wrap};
use crate::judge::verdict::{Cause, ServiceVerdict, Verdict};
use crate::policy::kind::{Kind, Severity};

/// The most lines that one cause takes, at 80 columns or more.
const MOST_LINES: usize = 6;
/// The number of causes of one kind and service that are shown before the rest is counted.
const MOST_ALIKE: usize = 5;
/// The number of causes that are named when they have ended.
const MOST_ENDED: usize = 10;
/// The indent of the lines below the head of a cause.
const INDENT: usize = 9;

/// A cause and its service.
type Of<'a> = (&'a ServiceVerdict, &'a Cause);

/// Every cause of every service, the worst first.
fn all(verdict: &Verdict) -> Vec<Of<'_>> {
    let mut all: Vec<Of<'_>> =
        verdict.services.iter().flat_map(|s| s.causes.iter().map(move |c| (s, c))).collect();
    all.sort_by_key(|(service, cause)| {
        (cause.pending, cause.severity, cause.kind.precedence(), service.name.as_str())
    });
    all
}

/// How many causes there are, those that fire by severity, as `2 problems, 1 warning`; and the colour of
/// the worst.
fn tally(all: &[Of<'_>]) -> (Tint, String) {
    let firing =
        |severity| all.iter().filter(|(_, c)| !c.pending && c.severity == severity).count();
    let (problems, warnings) = (firing(Severity::Critical), firing(Severity::Warning));
    let pending = all.iter().filter(|(_, cause)| cause.pending).count();
    let words = [
        (problems, "problem", "problems"),
        (warnings, "warning", "warnings"),
        (firing(Severity::Info), "note", "notes"),
        (pending, "pending", "pending"),
    ];
    let words = words.into_iter().filter(|(count, ..)| *count > 0);
    let words: Vec<String> = words.map(|(count, one, many)| counted(count, one, many)).collect();
    let tint = match (problems, warnings + pending) {
        (0, 0) => Tint::Good,
        (0, _) => Tint::Poor,
        _ => Tint::Bad,
    };
    (tint, if words.is_empty() { "no problems".to_owned() } else { words.join(", ") })
}

/// The verdict in one sentence, with the effect and the remedy of the worst cause.
#[must_use]
pub fn headline(verdict: &Verdict) -> (Tint, String) {
    let all = all(verdict);
    let (tint, tally) = tally(&all);
    let services = counted(verdict.services.len(), "haproxy", "haproxys");
    let mut sentence = format!("{tally} on {services}");
    let down = verdict.services.iter().filter(|service| service.up == Some(false));
    let down: Vec<String> = down.map(|service| printable(&service.name)).collect();
    if !down.is_empty() {
        let _ = write!(sentence, "; down: {}", down.join(", "));
    }
    if let Some((service, worst)) = all.first().filter(|(_, c)| c.severity != Severity::Info) {
        let (name, effect) = (printable(&service.name), worst.kind.effect());
        let remedy = printable(remedy(&worst.advice));
        let _ = write!(sentence, "; {name}: {effect}. First: {remedy}");
    }
    (if down.is_empty() { tint } else { Tint::Bad }, sentence)
}

/// The command with which an advice begins, or its first clause.
fn remedy(advice: &str) -> &str {
    let clause = advice.split("; ").next().unwrap_or_default();
    if clause.starts_with("kill ") { clause.split(": ").next().unwrap_or_default() } else { clause }
}

/// The causes, the worst first, each in at most six lines. A `*` precedes those that are marked.
#[must_use]
pub fn causes(verdict: &Verdict, marks: &Marks<'_>, paint: Paint, width: usize) -> String {
    let mut text = String::new();
    let mut alike: BTreeMap<(&str, Kind), usize> = BTreeMap::new();
    for (service, cause) in all(verdict) {
        let count = alike.entry((&service.name, cause.kind)).or_default();
        *count += 1;
        if *count <= MOST_ALIKE {
            let mark = if marks.cause(service, cause) { "* " } else { "" };
            if !mark.is_empty() {
                text.push_str(&paint.tint(Tint::Head, mark));
            }
            let width = width.saturating_sub(mark.len());
            write_cause(&mut text, service, cause, verdict.taken, paint, width);
        }
    }
    for ((service, kind), count) in alike.into_iter().filter(|(_, count)| *count > MOST_ALIKE) {
        let more = count - MOST_ALIKE;
        let words = format!(
            "and {more} more {} of {} (all: --output json)",
            kind.as_str(),
            printable(service)
        );
        lines(&mut text, "", &words, width);
    }
    text
}

/// The causes that have ended, one line each; many are counted.
#[must_use]
pub fn ended(marks: &Marks<'_>, paint: Paint, width: usize) -> String {
    let mut text = String::new();
    for (cause, seconds) in marks.ended.iter().take(MOST_ENDED) {
        let words = [cause.service.as_str(), cause.subject.as_str()];
        let words = words.into_iter().filter(|word| !word.is_empty()).map(printable);
        let words: Vec<String> = words.chain([format!("after {}", age(*seconds))]).collect();
        let line = format!("ENDED {}  {}", cause.kind.as_str(), words.join(", "));
        let _ = writeln!(text, "{}", paint.tint(Tint::Good, &cut(&line, width)));
    }
    if let Some(more) = more(marks.ended.len(), MOST_ENDED, "have ended") {
        let _ = writeln!(text, "{more}");
    }
    text
}

fn write_cause(
    text: &mut String,
    service: &ServiceVerdict,
    cause: &Cause,
    now: f64,
    paint: Paint,
    width: usize,
) {
    let tint = match cause.severity {
        Severity::Critical => Tint::Bad,
        Severity::Warning => Tint::Poor,
        Severity::Info => Tint::Plain,
    };
    let head = format!("{} {}", cause.severity.as_str().to_uppercase(), cause.kind.as_str());
    let words = about(service, cause, now);
    let room = width.saturating_sub(INDENT);
    let mut below: Vec<(&str, Vec<String>)> = Vec::new();
    let mut first = paint.tint(tint, &head);
    if head.chars().count() + 2 + words.chars().count() <= width {
        let _ = write!(first, "  {words}");
    } else {
        below.push(("at", vec![cut(&words, room)]));
    }
    if cause.ports.len() > 1 {
        below.push(("on", vec![cut(&ports_of(cause), room)]));
    }
    below.push(("so", vec![cut(cause.kind.effect(), room)]));
    let advice = at_most(wrap(&printable(&cause.advice), room), 2, room);
    let left = MOST_LINES.saturating_sub(1 + below.len() + advice.len());
    below.extend(facts(cause, left, room).into_iter().map(|fact| ("why", fact)));
    below.push(("→", advice));
    let _ = writeln!(text, "{first}");
    for (mark, words) in below {
        for (index, line) in words.iter().enumerate() {
            let mark = if index == 0 { mark } else { "" };
            let _ = writeln!(text, "    {mark:<5}{line}");
        }
    }
}

/// The first facts of a cause, in lines: `left` lines at most.
fn facts(cause: &Cause, mut left: usize, width: usize) -> Vec<Vec<String>> {
    let mut facts = Vec::new();
    for fact in &cause.evidence {
        if left == 0 {
            break;
        }
        let shown = at_most(wrap(&printable(fact), width), left, width);
        left -= shown.len();
        facts.push(shown);
    }
    facts
}

/// The ports of a cause, as ranges.
#[must_use]
pub fn ports_of(cause: &Cause) -> String {
    ranges::in_words(&cause.ports)
}

/// What the cause is about: the service, what is acted on, the port, and since when.
fn about(service: &ServiceVerdict, cause: &Cause, now: f64) -> String {
    let mut words = vec![printable(&service.name)];
    match cause.ports.as_slice() {
        [] => {}
        [port] => words.push(port_name(port)),
        ports => words.push(counted(ports.len(), "port", "ports")),
    }
    if !cause.subject.is_empty() {
        words.push(printable(&cause.subject));
    }
    words.push(format!("for {}", age(now - cause.since)));
    if cause.pending {
        words.push("pending".to_owned());
    }
    words.join(", ")
}

/// The first lines; the last of them shows that there were more.
fn at_most(mut lines: Vec<String>, limit: usize, width: usize) -> Vec<String> {
    if lines.len() > limit {
        lines.truncate(limit);
        if let Some(last) = lines.last_mut() {
            *last = cut(&format!("{last} …"), width);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::changes::Follower;
    use crate::model::PortRole;
    use crate::stage::{Actor, Film, actor, tcp_use};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const PLAIN: Paint = Paint { colour: false };

    fn pile_up(ports: u16, stale: i32) -> Verdict {
        let actors = || -> Vec<Actor> {
            let mut actors: Vec<Actor> = (0..stale)
                .map(|n| {
                    let pid = 10 + n;
                    let start = 1000 * u64::from(pid.unsigned_abs());
                    let old = actor(pid, 100 + pid.unsigned_abs(), LINE);
                    (0..ports).fold(old, |old, n| old.tcp(20_000 + 2 * n, start + u64::from(n)))
                })
                .collect();
            actors.push(actor(900, 500, &format!("{LINE} -sf 9")).tcp(80, 1));
            actors
        };
        Film::default().settle(1000.0, &actors())
    }

    #[test]
    fn a_cause_takes_six_lines_whatever_its_ports() {
        for ports in [1, 2, 31, 300] {
            for width in [80, 120] {
                let verdict = pile_up(ports, 1);
                let text = causes(&verdict, &Marks::default(), PLAIN, width);
                assert!(text.starts_with("CRITICAL port_stale_listener"), "{text}");
                assert!(text.lines().count() <= MOST_LINES, "{ports}, {width}:\n{text}");
                assert!(text.contains("    →    kill -USR1 10"), "{text}");
                assert!(text.contains("    so   some new clients"), "{text}");
                for line in text.lines() {
                    assert!(line.chars().count() <= width, "{line}");
                }
            }
        }
    }

    #[test]
    fn the_first_line_says_what_to_do() {
        let (tint, sentence) = headline(&pile_up(300, 1));
        assert_eq!(
            (tint, sentence.as_str()),
            (
                Tint::Bad,
                "1 problem on 1 haproxy; p: some new clients are served by an old configuration. \
                 First: kill -USR1 10"
            )
        );
        let serving = [actor(10, 1, LINE).tcp(80, 1)];
        let (tint, sentence) = headline(&Film::default().settle(1000.0, &serving));
        assert_eq!((tint, sentence.as_str()), (Tint::Good, "no problems on 1 haproxy"));
    }

    /// 300 ports, one stranded process, and a new port that it blocks.
    #[test]
    fn the_founding_incident_fits_one_screen() {
        let old =
            (0..301).fold(actor(10, 100, LINE), |old, n| old.tcp(20_000 + n, 1000 + u64::from(n)));
        let wanted = "frontend a\n bind :80\n bind :20300\n";
        let new = actor(11, 200, &format!("{LINE} -sf 9")).configured(wanted, 150).tcp(80, 1);
        let uses = [tcp_use(PortRole::Listening, "0.0.0.0:20300", 1300, 99)];
        let mut film = Film::default();
        film.see_uses(1000.0, &[old.clone(), new.clone()], &uses);
        let verdict = film.see_uses(1030.0, &[old, new], &uses);
        let kinds: Vec<_> = verdict.one().causes[0].kinds.iter().map(|k| k.as_str()).collect();
        assert_eq!(kinds, ["port_blocked", "port_stale_listener"]);
        let (_, sentence) = headline(&verdict);
        assert!(sentence.starts_with("1 problem on 1 haproxy; p: declared ports"), "{sentence}");
        assert!(sentence.ends_with("First: kill -USR1 10"), "{sentence}");
        let text = crate::report::table::table(&verdict, &Marks::default(), PLAIN, 80);
        let above = text.lines().take_while(|line| !line.starts_with("haproxy p")).count();
        assert!(above <= 24, "{above} lines:\n{text}");
    }

    #[test]
    fn many_causes_that_ended_are_counted() {
        let mut follower = Follower::default();
        follower.follow(&pile_up(1, 40));
        let (nothing, before) =
            (Verdict { taken: 2000.0, ..Verdict::default() }, Verdict::default());
        let changes = follower.follow(&nothing);
        let text = ended(&Marks::since(Some(&before), &changes), PLAIN, 80);
        assert_eq!(text.matches("ENDED port_stale_listener  p, haproxy stale pid ").count(), 10);
        assert!(text.ends_with("\nand 30 more have ended\n"), "{text}");
    }

    #[test]
    fn many_causes_of_one_kind_are_folded() {
        let text = causes(&pile_up(1, 40), &Marks::default(), PLAIN, 80);
        assert_eq!(text.matches("CRITICAL").count(), MOST_ALIKE, "{text}");
        let end = "and 35 more port_stale_listener of p (all: --output json)\n";
        assert!(text.ends_with(end), "{text}");
    }
}
