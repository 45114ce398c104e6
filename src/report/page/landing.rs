//! `/`: the page for a person. Problems first, then processes and ports; no script, nothing
//! fetched.
//!
//! maud checks the templates at compile time and escapes every value. Control characters are left
//! to [`printable`], because a process may have any name.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::causes::causes;
use super::times::ago;
use crate::build_info;
use crate::haproxy::lineage::identity::Shown;
use crate::judge::verdict::{Port, ProcessView, ServiceVerdict, Verdict};
use crate::report::expired;
use crate::report::ranges::ranges_by;
use crate::report::text::{age, counted, list, more, printable};

const STYLE: &str = include_str!("landing.css");

/// The page's content security policy: it permits the page's own style sheet, by its hash, and
/// nothing else.
pub const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-tCndADzIvyOvdwLG3PQPOr6PZRGF/28aY535p5pXhFA='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The longest table of ports that a person would read.
const MAX_PORT_ROWS: usize = 500;
/// The longest list of what could not be read.
const MAX_UNREADABLE: usize = 100;

/// The whole page: the age of the sample above the content, which is the same for all requests
/// between two samples.
#[must_use]
pub fn document(sample_age: Option<Duration>, late: bool, content: &Markup) -> String {
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
                    p { (freshness(sample_age, late)) }
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

/// The content of the page.
#[must_use]
pub fn content(verdict: &Verdict, telemetry_path: &str) -> Markup {
    let services = worst_first(verdict);
    html! {
        main {
            (summary(&services))
            (expired_ignores(verdict))
            (unreadable(verdict))
            @for (number, one) in services.iter().enumerate() {
                (service(one, number, verdict.taken))
            }
        }
        (footer(telemetry_path))
    }
}

fn worst_first(verdict: &Verdict) -> Vec<&ServiceVerdict> {
    let mut services: Vec<_> = verdict.services.iter().collect();
    services.sort_by_key(|service| {
        let severities = service.causes.iter().filter(|c| !c.pending).map(|cause| cause.severity);
        severities.min().map_or(u8::MAX, |worst| worst as u8)
    });
    services
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

fn summary(services: &[&ServiceVerdict]) -> Markup {
    let all_firing: usize = services.iter().map(|service| firing(service)).sum();
    let all: usize = services.iter().map(|service| service.causes.len()).sum();
    let pending = all - all_firing;
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

fn expired_ignores(verdict: &Verdict) -> Markup {
    html! {
        @for ignore in &verdict.expired_ignores {
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

fn service(service: &ServiceVerdict, number: usize, now: f64) -> Markup {
    let id = format!("haproxy-{number}");
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (printable(&service.name)) }
            (facts(service, now))
            (causes(&service.causes, now))
            (processes(&service.processes, now))
            (ports(&service.ports))
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
                " · " b { (generations) @if generations == 1 { " generation" } @else { " generations" } }
            }
            @if let Some(start) = service.generation_start {
                " · serving for " b { (ago(start, now)) }
            }
        }
    }
}

fn processes(processes: &[ProcessView], now: f64) -> Markup {
    html! {
        h3 { "Processes" }
        @if processes.is_empty() {
            p { "None: it is gone." }
        } @else {
            div.wide role="region" aria-label="Processes" tabindex="0" {
                table {
                    thead {
                        tr {
                            th.number scope="col" { "pid" }
                            th scope="col" { "role" }
                            th scope="col" { "generation" }
                            th scope="col" { "age" }
                            th scope="col" { "stale for" }
                            th scope="col" { "connections" }
                            th.number scope="col" { "descriptors" }
                            th.number scope="col" { "memory" }
                        }
                    }
                    tbody {
                        @for process in processes { (process_row(process, now)) }
                    }
                }
            }
        }
    }
}

fn process_row(process: &ProcessView, now: f64) -> Markup {
    let connections = process.connections.map(|connections| {
        let named = connections.named().into_iter().filter(|(_, count)| *count > 0);
        let named: Vec<_> = named.map(|(state, count)| format!("{count} {state}")).collect();
        if named.is_empty() { "none".to_owned() } else { named.join(", ") }
    });
    html! {
        tr {
            td.number { (process.id.pid) }
            td { (process.role.as_str()) }
            td {
                (process.generation.as_str())
                @if let Some(state) = process.state { ", " (state.as_str()) }
            }
            td { (ago(process.started, now)) }
            td { @if let Some(how) = process.superseded { (ago(how.since, now)) } }
            td { @if let Some(connections) = connections { (connections) } }
            td.number {
                @if let Some(open) = process.open_fds {
                    (open)
                    @if let Some(max) = process.max_fds { " of " (max) }
                }
            }
            td.number {
                @if let Some(bytes) = process.anonymous_memory_bytes { (bytes >> 20) " MiB" }
            }
        }
    }
}

fn ports(ports: &[Port]) -> Markup {
    let rows = ranges_by(ports.iter().map(|port| (&port.key, (port.generation, &port.pids))));
    html! {
        h3 { "Ports" }
        @if rows.is_empty() {
            p { "None." }
        } @else {
            div.wide role="region" aria-label="Ports" tabindex="0" {
                table {
                    thead {
                        tr {
                            th scope="col" { "listens on" }
                            th scope="col" { "generation" }
                            th scope="col" { "pids" }
                        }
                    }
                    tbody {
                        @for row in rows.iter().take(MAX_PORT_ROWS) {
                            tr {
                                td { (row.to_string()) }
                                td { (row.common.0.as_str()) }
                                td { (list(row.common.1, " ")) }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(more) = more(rows.len(), MAX_PORT_ROWS, "rows; inspect lists them all") {
            p { (more) }
        }
    }
}

/// The number of causes that are not pending.
fn firing(service: &ServiceVerdict) -> usize {
    service.causes.iter().filter(|cause| !cause.pending).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Unreadable, What};
    use crate::policy::{Ignore, Until};
    use base64::prelude::{BASE64_STANDARD, Engine as _};

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
        let content = content(&Verdict { unreadable, ..Verdict::default() }, "/m&\"m");
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

    #[test]
    fn an_expired_ignore_entry_is_shown() {
        let until = Some(Until { end: 1000.0, written: "2027-03-01".to_owned() });
        let expired_ignores = vec![Ignore { until, ..Ignore::default() }];
        let verdict = Verdict { taken: 1004.0, expired_ignores, ..Verdict::default() };
        let page = content(&verdict, "/metrics").into_string();
        let line = "an ignore entry of defaults has expired: every kind, until 2027-03-01 (4s ago)";
        assert_eq!(page.matches(line).count(), 1, "{page}");
    }
}
