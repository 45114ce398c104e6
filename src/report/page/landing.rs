//! `/`: a page for a person. Anomalies first, then processes and ports; no script, nothing fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use super::endpoints::{Run, runs};
use super::html::{Escaped, age, ago};
use crate::build_info;
use crate::judge::verdict::{Anomaly, Port, ProcessView, ServiceVerdict, Verdict};

const STYLE: &str = include_str!("landing.css");

/// What the page may do: be styled by its own style sheet, known by its hash. Nothing else.
pub const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-tCndADzIvyOvdwLG3PQPOr6PZRGF/28aY535p5pXhFA='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Rows of ports a person would read; the rest is on the page of the metrics.
const MAX_PORT_ROWS: usize = 500;
/// Ports a title names before it counts them.
const MAX_NAMED_RUNS: usize = 8;
/// Lines of advice that differ only in the port, before they are counted.
const MAX_ADVICE: usize = 3;

/// The first lines, which tell the sample's age.
#[must_use]
pub fn head(sample_age: Option<Duration>, late: bool) -> String {
    let told = match sample_age {
        None => "No sample has been taken yet.".to_owned(),
        Some(old) if late => format!(
            "<strong class=\"bad\">The last sample is {} old: samples have stopped coming.</strong>",
            age(old)
        ),
        Some(old) => format!("Sample taken {} ago.", age(old)),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>haproxy-host-exporter</title><style>{STYLE}</style></head><body>\
         <header><h1>haproxy-host-exporter</h1><p>{told}</p></header>"
    )
}

/// All below the first lines before there is a sample.
#[must_use]
pub fn nothing(telemetry_path: &str) -> String {
    format!("<main></main>{}", foot(telemetry_path))
}

/// All below the first lines.
#[must_use]
pub fn content(verdict: &Verdict, telemetry_path: &str) -> String {
    let mut html = String::from("<main>");
    summary(&mut html, verdict);
    unreadable(&mut html, verdict);
    for (number, one) in worst_first(verdict).into_iter().enumerate() {
        haproxy(&mut html, one, number, verdict.taken);
    }
    html + "</main>" + &foot(telemetry_path)
}

fn worst_first(verdict: &Verdict) -> Vec<&ServiceVerdict> {
    let mut haproxys: Vec<_> = verdict.services.iter().collect();
    haproxys.sort_by_key(|haproxy| {
        let standing = haproxy.anomalies.iter().filter(|anomaly| !anomaly.pending);
        standing.map(|anomaly| anomaly.kind.severity()).min().map_or(u8::MAX, |worst| worst as u8)
    });
    haproxys
}

fn foot(telemetry_path: &str) -> String {
    let [version, revision, compiler] = build_info::LABELS;
    let links = [telemetry_path, "/-/healthy", "/-/ready"].map(|path| {
        let path = Escaped(path);
        format!("<a href=\"{path}\">{path}</a>")
    });
    format!(
        "<footer><nav aria-label=\"Pages\"><p>{}</p></nav>\
         <p>Version {version}, revision {revision}, rustc {compiler}</p></footer></body></html>\n",
        links.join(" · ")
    )
}

fn summary(html: &mut String, verdict: &Verdict) {
    let haproxys = &verdict.services;
    let all = || haproxys.iter().flat_map(|haproxy| &haproxy.anomalies);
    let standing = all().filter(|anomaly| !anomaly.pending).count();
    let pending = all().count() - standing;
    let _ = match haproxys.len() {
        0 => write!(html, "<p>No HAProxy runs on this host.</p>"),
        count => write!(
            html,
            "<p>{}, {}{}.</p>",
            counted(count, "HAProxy", "HAProxys"),
            counted(standing, "anomaly", "anomalies"),
            if pending > 0 { format!(", {pending} pending") } else { String::new() }
        ),
    };
    if haproxys.len() > 1 {
        html.push_str("<nav aria-label=\"HAProxys\"><ul>");
        for (number, haproxy) in worst_first(verdict).into_iter().enumerate() {
            let name = Escaped(&haproxy.name);
            let anomalies = haproxy.anomalies.iter().filter(|anomaly| !anomaly.pending).count();
            let anomalies = counted(anomalies, "anomaly", "anomalies");
            let _ = write!(html, "<li><a href=\"#haproxy-{number}\">{name}</a>: {anomalies}</li>");
        }
        html.push_str("</ul></nav>");
    }
}

fn unreadable(html: &mut String, verdict: &Verdict) {
    if verdict.unreadable.is_empty() {
        return;
    }
    html.push_str("<section><h2>Could not be read</h2><p>What depends on it is unknown.</p><ul>");
    for entry in &verdict.unreadable {
        let (what, subject) = (entry.what.as_str(), Escaped(&entry.subject));
        let _ = write!(html, "<li>{what} of {subject}: {}</li>", Escaped(&entry.reason));
    }
    html.push_str("</ul></section>");
}

fn haproxy(html: &mut String, haproxy: &ServiceVerdict, number: usize, now: f64) {
    let name = Escaped(&haproxy.name);
    let up = match haproxy.up {
        Some(true) => "up",
        Some(false) => "<strong class=\"bad\">down</strong>",
        None => "<strong class=\"bad\">could not be seen</strong>",
    };
    let _ = write!(
        html,
        "<section aria-labelledby=\"haproxy-{number}\"><h2 id=\"haproxy-{number}\">{name}</h2>\
         <p class=\"facts\">{up}"
    );
    facts(html, haproxy, now);
    html.push_str("</p>");
    anomalies(html, &haproxy.anomalies, now);
    processes(html, &haproxy.processes, now);
    ports(html, &haproxy.ports);
    html.push_str("</section>");
}

fn facts(html: &mut String, haproxy: &ServiceVerdict, now: f64) {
    let identity = &haproxy.identity;
    let shown =
        |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let mode = (!identity.mode.is_empty()).then(|| identity.mode.to_owned());
    let facts = [
        ("mode", mode),
        ("version", identity.version.clone()),
        ("unit", identity.unit.clone()),
        ("configuration", shown(&identity.config)),
        ("pidfile", shown(&identity.pidfile)),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            let _ = write!(html, " · {name} <b>{}</b>", Escaped(&value));
        }
    }
    if let Some(generations) = haproxy.generations {
        let _ = write!(html, " · <b>{}</b>", counted_u64(generations, "generation", "generations"));
    }
    if let Some(start) = haproxy.generation_start {
        let _ = write!(html, " · serving for <b>{}</b>", ago(start, now));
    }
}

fn anomalies(html: &mut String, anomalies: &[Anomaly], now: f64) {
    html.push_str("<h3>Anomalies</h3>");
    if anomalies.is_empty() {
        html.push_str("<p>None.</p>");
    }
    // What is said of many ports alike is said once.
    let mut groups: BTreeMap<_, Vec<&Anomaly>> = BTreeMap::new();
    for anomaly in anomalies {
        let Anomaly { kind, pending, evidence, subject, .. } = anomaly;
        let alike = (pending, kind.severity(), kind, &subject.holder, evidence);
        groups.entry(alike).or_default().push(anomaly);
    }
    for ((&pending, severity, kind, holder, evidence), group) in groups {
        let severity = severity.as_str();
        let since = group.iter().map(|anomaly| anomaly.since).fold(now, f64::min);
        let _ = write!(
            html,
            "<article class=\"{severity}\"><h4><span class=\"severity\">{severity}</span> {}{}</h4>\
             <p>{} {}</p><ul>",
            kind.as_str(),
            subject(&group, holder),
            if pending { "pending, seen for" } else { "for" },
            ago(since, now),
        );
        for fact in evidence {
            let _ = write!(html, "<li>{}</li>", Escaped(fact));
        }
        html.push_str("</ul>");
        let advice: BTreeSet<_> = group.iter().map(|anomaly| anomaly.advice.as_str()).collect();
        for line in advice.iter().take(MAX_ADVICE) {
            let _ = write!(html, "<p><b>Do:</b> {}</p>", Escaped(line));
        }
        if advice.len() > MAX_ADVICE {
            let _ = write!(html, "<p>And so for {} more.</p>", advice.len() - MAX_ADVICE);
        }
        html.push_str("</article>");
    }
}

fn subject(group: &[&Anomaly], holder: &str) -> String {
    let ports = group.iter().filter_map(|anomaly| anomaly.subject.port.as_ref());
    let runs = runs(ports.map(|key| (key, ())));
    let named: Vec<_> = runs.iter().take(MAX_NAMED_RUNS).map(Run::html).collect();
    let mut text = String::new();
    if !named.is_empty() {
        let _ = write!(text, ": {}", named.join(", "));
    }
    if runs.len() > MAX_NAMED_RUNS {
        let _ = write!(text, " and {} more", runs.len() - MAX_NAMED_RUNS);
    }
    if !holder.is_empty() {
        let _ = write!(text, ", held by {}", Escaped(holder));
    }
    text
}

fn processes(html: &mut String, processes: &[ProcessView], now: f64) {
    html.push_str("<h3>Processes</h3>");
    if processes.is_empty() {
        html.push_str("<p>None: it is gone.</p>");
        return;
    }
    html.push_str(
        "<div class=\"wide\" role=\"region\" aria-label=\"Processes\" tabindex=\"0\"><table><thead><tr>\
         <th scope=\"col\" class=\"number\">pid\
         <th scope=\"col\">role<th scope=\"col\">generation<th scope=\"col\">age\
         <th scope=\"col\">stale for<th scope=\"col\">connections\
         <th scope=\"col\" class=\"number\">descriptors\
         <th scope=\"col\" class=\"number\">memory</tr></thead><tbody>",
    );
    for process in processes {
        let state = process.state.map(|state| format!(", {}", state.as_str())).unwrap_or_default();
        let superseded = process.superseded.map(|how| ago(how.since, now)).unwrap_or_default();
        let connections = process.connections.map(|connections| {
            let named = connections.named().into_iter().filter(|(_, count)| *count > 0);
            let named: Vec<_> = named.map(|(state, count)| format!("{count} {state}")).collect();
            if named.is_empty() { "none".to_owned() } else { named.join(", ") }
        });
        let memory = process.anonymous_memory_bytes.map(|bytes| format!("{} MiB", bytes >> 20));
        let descriptors = match (process.open_fds, process.max_fds) {
            (Some(open), Some(max)) => format!("{open} of {max}"),
            (Some(open), None) => open.to_string(),
            (None, _) => String::new(),
        };
        let _ = write!(
            html,
            "<tr><td class=\"number\">{}<td>{}<td>{}{state}<td>{}<td>{superseded}<td>{}\
             <td class=\"number\">{descriptors}<td class=\"number\">{}</tr>",
            process.id.pid,
            process.role.as_str(),
            process.generation.as_str(),
            ago(process.started, now),
            connections.unwrap_or_default(),
            memory.unwrap_or_default(),
        );
    }
    html.push_str("</tbody></table></div>");
}

fn ports(html: &mut String, ports: &[Port]) {
    html.push_str("<h3>Ports</h3>");
    if ports.is_empty() {
        html.push_str("<p>None.</p>");
        return;
    }
    html.push_str(
        "<div class=\"wide\" role=\"region\" aria-label=\"Ports\" tabindex=\"0\"><table><thead><tr>\
         <th scope=\"col\">listens on<th scope=\"col\">generation<th scope=\"col\">pids\
         </tr></thead><tbody>",
    );
    let rows = runs(ports.iter().map(|port| (&port.key, (port.generation.as_str(), &port.pids))));
    for row in rows.iter().take(MAX_PORT_ROWS) {
        let (generation, pids) = row.common;
        let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
        let _ = write!(html, "<tr><td>{}<td>{generation}<td>{}</tr>", row.html(), pids.join(" "));
    }
    html.push_str("</tbody></table></div>");
    if rows.len() > MAX_PORT_ROWS {
        let more = rows.len() - MAX_PORT_ROWS;
        let _ = write!(html, "<p>And {more} more; inspect lists them all.</p>");
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    counted_u64(count as u64, one, many)
}

fn counted_u64(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Unreadable, What};

    #[test]
    fn the_style_is_the_one_the_policy_names() {
        let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in digest.as_ref().chunks(3) {
            let three = [0, 1, 2].map(|i| u32::from(chunk.get(i).copied().unwrap_or(0)));
            let bits = three[0] << 16 | three[1] << 8 | three[2];
            for place in 0..4 {
                let digit = digits[(bits >> (18 - 6 * place) & 63) as usize] as char;
                text.push(if place > chunk.len() { '=' } else { digit });
            }
        }
        assert!(POLICY.contains(&format!("'sha256-{text}'")), "the hash is now sha256-{text}");
    }

    #[test]
    fn what_could_not_be_read_is_told_and_escaped() {
        let unreadable = vec![Unreadable {
            what: What::Descriptors,
            subject: "<script>".to_owned(),
            reason: "needs CAP_SYS_PTRACE".to_owned(),
        }];
        let html = content(&Verdict { unreadable, ..Verdict::default() }, "/m&m");
        assert!(html.contains("descriptors of &lt;script&gt;: needs CAP_SYS_PTRACE"), "{html}");
        assert!(html.contains("No HAProxy runs on this host"), "{html}");
        assert!(html.contains("<a href=\"/m&amp;m\">") && !html.contains("<script"), "{html}");
    }
}
