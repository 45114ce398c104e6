//! `/`: the page for a person. Problems first, then processes and ports, the last events at the foot; no
//! script, nothing fetched.
//!
//! maud checks the templates at compile time and escapes every value. Control characters are left
//! to [`printable`], because a process may have any name.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::causes::causes;
use super::events::events;
use super::filter::{Filter, service_link};
use super::order::worst_first;
use super::tables::{ports, processes};
use super::times::ago;
use crate::build_info;
use crate::haproxy::lineage::identity::Shown;
use crate::judge::verdict::{ServiceVerdict, Verdict};
use crate::report::events::Events;
use crate::report::expired;
use crate::report::text::{age, counted, printable};

const STYLE: &str = include_str!("landing.css");

/// The page's content security policy: it permits the page's own style sheet, by its hash, and
/// nothing else.
pub const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-IO8xsu8PWbIMXeO7YrbVweDUDpe7NL9trxw0DIQCDMw='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The longest list of what could not be read.
const MAX_UNREADABLE: usize = 100;

/// The whole page: the age of the sample above the content, which is the same for all requests
/// between two samples.
#[must_use]
pub fn document(sample_age: Option<Duration>, late: bool, content: &Markup) -> String {
    framed(&freshness(sample_age, late), content)
}

/// A whole document: the name of the program, one line about what follows, and the content.
pub(super) fn framed(lead: &Markup, content: &Markup) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "haproxy-host-exporter" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "haproxy-host-exporter" }
                    p { (lead) }
                }
                (content)
            }
        }
    };
    document.into_string()
}

fn freshness(sample_age: Option<Duration>, late: bool) -> Markup {
    let old = sample_age.map(|old| age(old.as_secs_f64()));
    html! {
        @match old {
            None => "No sample has been taken yet.",
            Some(old) if late => strong.bad {
                "The last sample is " (old) " old: samples have stopped coming."
            }
            Some(old) => { "Sample taken " (old) " ago." }
        }
    }
}

/// The content of the page before there is a sample.
#[must_use]
pub fn no_content(telemetry_path: &str) -> Markup {
    html! {
        main {}
        (footer(telemetry_path))
    }
}

/// The content of the page, or of the part of it that the filter takes.
#[must_use]
pub fn content(
    verdict: &Verdict,
    last_events: &Events,
    filter: &Filter,
    telemetry_path: &str,
) -> Markup {
    let (services, left_out) = worst_first(verdict, filter);
    html! {
        main {
            @if !filter.is_empty() { (filter.note(verdict)) }
            @if filter.is_empty() || !services.is_empty() { (summary(&services, filter)) }
            (expired_ignores(verdict, filter))
            (unreadable(verdict))
            @for (number, one) in services.iter().enumerate() {
                (service(one, number, filter, verdict.taken))
            }
            @if left_out > 0 {
                p {
                    "And " (counted(left_out, "service", "services")) " of users other than root; "
                    code { "/?haproxy=NAME" } " shows each of them."
                }
            }
            (events(last_events, filter, verdict.taken))
        }
        (footer(telemetry_path))
    }
}

fn footer(telemetry_path: &str) -> Markup {
    let [version, revision, compiler] = build_info::LABELS;
    let links = [telemetry_path, "/-/healthy", "/-/ready"];
    html! {
        footer {
            nav aria-label="Pages" {
                p {
                    @for (place, path) in links.iter().enumerate() {
                        @if place > 0 { " · " }
                        a href=(path) { (path) }
                    }
                }
            }
            p { "Version " (version) ", revision " (revision) ", rustc " (compiler) }
        }
    }
}

fn summary(services: &[&ServiceVerdict], filter: &Filter) -> Markup {
    let firing = |service| counts(service, filter).0;
    let all_firing: usize = services.iter().map(|service| firing(service)).sum();
    let pending: usize = services.iter().map(|service| counts(service, filter).1).sum();
    html! {
        p {
            @if services.is_empty() {
                "No HAProxy runs on this host."
            } @else {
                (counted(services.len(), "HAProxy", "HAProxys"))
                ", " (counted(all_firing, "problem", "problems"))
                @if pending > 0 { ", " (pending) " pending" }
                "."
            }
        }
        @if services.len() > 1 {
            nav aria-label="HAProxys" {
                ul {
                    @for (number, service) in services.iter().enumerate() {
                        li {
                            a href={ "#haproxy-" (number) } { (printable(&service.name)) }
                            ": " (counted(firing(service), "problem", "problems"))
                        }
                    }
                }
            }
        }
    }
}

fn expired_ignores(verdict: &Verdict, filter: &Filter) -> Markup {
    let ignores = verdict.expired_ignores.iter();
    html! {
        @for ignore in ignores.filter(|ignore| filter.takes_service(ignore.haproxy.as_deref())) {
            p { strong { (expired::line(ignore, verdict.taken)) } "." }
        }
    }
}

fn unreadable(verdict: &Verdict) -> Markup {
    html! {
        @if !verdict.unreadable.is_empty() {
            section {
                h2 { "Could not be read" }
                p { "What depends on it is unknown." }
                ul {
                    @for entry in verdict.unreadable.iter().take(MAX_UNREADABLE) {
                        li {
                            (entry.what.as_str()) " of " (printable(&entry.subject)) ": "
                            (printable(&entry.reason))
                        }
                    }
                    @if verdict.unreadable.len() > MAX_UNREADABLE {
                        li { (verdict.unreadable.len() - MAX_UNREADABLE) " more" }
                    }
                }
            }
        }
    }
}

fn service(service: &ServiceVerdict, number: usize, filter: &Filter, now: f64) -> Markup {
    let id = format!("haproxy-{number}");
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (service_link(&service.name)) }
            (facts(service, now))
            (causes(&service.causes, filter, now))
            @if !filter.has_kind() {
                (processes(&service.processes, now))
                (ports(&service.ports))
            }
        }
    }
}

fn facts(service: &ServiceVerdict, now: f64) -> Markup {
    let Shown { mode, unit, config, pidfile, version } = service.identity.shown();
    let known = [
        ("mode", Some(mode.to_owned()).filter(|mode| !mode.is_empty())),
        ("version", version),
        ("unit", unit),
        ("configuration", config),
        ("pidfile", pidfile),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
    html! {
        p.facts {
            @match service.up {
                Some(true) => "up",
                Some(false) => strong.bad { "down" }
                None => strong.bad { "could not be seen" }
            }
            @for (name, value) in known {
                " · " (name) " " b { (printable(&value)) }
            }
            @if let Some(generations) = service.generations {
                " · " b { (counted(generations, "generation", "generations")) }
            }
            @if let Some(start) = service.generation_start {
                " · serving for " b { (ago(start, now)) }
            }
        }
    }
}

/// The number of causes that fire and that are pending, among those that the filter takes.
fn counts(service: &ServiceVerdict, filter: &Filter) -> (usize, usize) {
    let taken = service.causes.iter().filter(|cause| filter.takes_cause(cause));
    let (pending, firing): (Vec<_>, Vec<_>) = taken.partition(|cause| cause.pending);
    (firing.len(), pending.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::changes::Follower;
    use crate::model::{Unreadable, What};
    use crate::policy::{Ignore, Until};
    use crate::report::events::Event;
    use crate::stage::{Film, actor};
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    fn whole(verdict: &Verdict, telemetry_path: &str) -> Markup {
        content(verdict, &Events::default(), &Filter::default(), telemetry_path)
    }

    #[test]
    fn the_policy_names_the_hash_of_the_style_sheet() {
        let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
        let hash = BASE64_STANDARD.encode(digest);
        assert!(POLICY.contains(&format!("'sha256-{hash}'")), "the hash is now sha256-{hash}");
    }

    #[test]
    fn unreadable_things_are_shown_and_escaped() {
        let unreadable = vec![Unreadable {
            what: What::Descriptors,
            subject: "<script>\u{7}".to_owned(),
            reason: "needs CAP_SYS_PTRACE".to_owned(),
        }];
        let content = whole(&Verdict { unreadable, ..Verdict::default() }, "/m&\"m");
        let page = document(None, false, &content);
        assert!(
            page.contains("descriptors of &lt;script&gt;\\u{7}: needs CAP_SYS_PTRACE"),
            "{page}"
        );
        assert!(page.contains("No HAProxy runs on this host"), "{page}");
        assert!(
            page.contains("<a href=\"/m&amp;&quot;m\">") && !page.contains("<script"),
            "{page}"
        );
    }

    /// Two services with a stale listener each; one of them has an idle process too.
    fn two_services() -> (Verdict, Events) {
        let line = |name: &str| format!("haproxy -D -f /{name}.cfg -p /run/{name}");
        let old =
            |pid, name: &str| actor(pid, 100, &line(name)).tcp(8000, u64::from(pid.unsigned_abs()));
        let new = |pid, name: &str, port| {
            actor(pid, 500, &format!("{} -sf 9", line(name))).tcp(port, u64::from(port))
        };
        let actors = || {
            [old(10, "a"), new(11, "a", 8001), old(20, "b&<b>"), new(21, "b&<b>", 8002)]
                .into_iter()
                .chain([actor(19, 50, &line("b&<b>"))])
                .collect::<Vec<_>>()
        };
        let (mut film, mut follower) = (Film::default(), Follower::default());
        let mut events = Events::default();
        let mut see = |taken: f64| {
            let verdict = film.see(taken, &actors());
            let changes = follower.follow(&verdict);
            for change in &changes {
                events.add(Event::of(change, taken));
            }
            verdict
        };
        see(1000.0);
        let verdict = see(1030.0);
        events.add(Event::configuration_read(false, 1031.0));
        (verdict, events)
    }

    #[test]
    fn an_address_shows_a_part_of_the_page() {
        let (verdict, events) = two_services();
        let note = "This page shows only ";
        let (a, b) = ("haproxy=a\">a</a></h2>", ">b&amp;&lt;b&gt;</a></h2>");
        let stale = "/runbooks/port_stale_listener\"";
        let idle = "/runbooks/process_idle\"";
        let (ports, own) = ("<h3>Ports</h3>", "own configuration is invalid");
        // Each row has a query, what the page shows, and what it does not show.
        let table: [(&str, &[&str], &[&str]); 8] = [
            ("", &[a, b, stale, idle, ports, own, "2 HAProxys, 3 problems."], &[note]),
            (
                "haproxy=a",
                &[a, stale, ports, "the service <b>a</b>. <a href=\"/\">", "1 HAProxy, 1 problem."],
                &[b, idle, own, "There is no"],
            ),
            ("haproxy=b%26%3Cb%3E", &[b, stale, idle, "<b>b&amp;&lt;b&gt;</b>"], &[a, own]),
            (
                "kind=process_idle",
                &[b, idle, "of the kind <b>process_idle</b>", "1 HAProxy, 1 problem."],
                &[a, stale, ports, own],
            ),
            ("kind=port_stale_listener", &[a, b, stale, "2 HAProxys, 2 problems."], &[idle]),
            (
                "haproxy=a&kind=process_idle",
                &[a, "There is no such problem now."],
                &[b, stale, idle],
            ),
            ("kind=port_split", &["There is no such problem now."], &[a, b, "No HAProxy runs"]),
            (
                "haproxy=%3Cb%3E%07&kind=x",
                &["There is no such service: &lt;b&gt;\\u{7}", "There is no such kind: x", note],
                &[a, b, "<b>\u{7}", "No HAProxy runs"],
            ),
        ];
        for (query, shown, hidden) in table {
            let filter = Filter::from_query(Some(query));
            let page = content(&verdict, &events, &filter, "/metrics").into_string();
            for wanted in shown {
                assert!(page.contains(wanted), "{query}: {wanted} is not in\n{page}");
            }
            for unwanted in hidden {
                assert!(!page.contains(unwanted), "{query}: {unwanted} is in\n{page}");
            }
        }
    }

    #[test]
    fn the_last_events_are_at_the_foot_newest_first() {
        let (verdict, events) = two_services();
        let page = content(&verdict, &events, &Filter::default(), "/metrics").into_string();
        let (_, foot) = page.split_once("Last events</h2>").unwrap();
        let newest = "1970-01-01 00:17:11 UTC</time> (0s ago): the exporter";
        let began = ">a</a>: <a href=\"/?kind=port_stale_listener\">port_stale_listener</a> began";
        let places = [newest, began, "</main>"].map(|words| foot.find(words));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in\n{foot}");
        assert_eq!(foot.matches("<li>").count(), 4, "{foot}");
        let none = whole(&Verdict::default(), "/metrics").into_string();
        assert!(none.contains("None since the exporter was started."), "{none}");
    }

    #[test]
    fn an_expired_ignore_entry_is_shown() {
        let until = Some(Until { end: 1000.0, written: "2027-03-01".to_owned() });
        let expired_ignores = vec![Ignore { until, ..Ignore::default() }];
        let verdict = Verdict { taken: 1004.0, expired_ignores, ..Verdict::default() };
        let page = whole(&verdict, "/metrics").into_string();
        let line = "an ignore entry of defaults has expired: every kind, until 2027-03-01 (4s ago)";
        assert_eq!(page.matches(line).count(), 1, "{page}");
    }
}
