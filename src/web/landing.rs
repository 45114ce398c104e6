//! `/`: a page for a person.

use std::fmt::Write;

use super::{Page, Settings};
use crate::judge::verdict::Haproxy;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
    padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse}\
    th,td{text-align:left;padding:.25rem .75rem;border-bottom:1px solid #8884}";

/// The page's HTML. Everything that comes from processes is escaped.
#[must_use]
pub fn page(settings: &Settings, page: Option<&Page>) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>haproxy-host-exporter</title><style>{STYLE}</style></head><body>\
         <h1>haproxy-host-exporter</h1>"
    );
    match page.map(|page| page.verdict.haproxys.as_slice()) {
        None => html.push_str("<p>No sample has been taken yet.</p>"),
        Some([]) => html.push_str("<p>No HAProxy runs on this host.</p>"),
        Some(haproxys) => haproxy_table(&mut html, haproxys),
    }
    let path = escape(&settings.telemetry_path);
    let links = [path.as_str(), "/-/healthy", "/-/ready"]
        .map(|path| format!("<li><a href=\"{path}\">{path}</a></li>"));
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(html, "<ul>{}</ul><p>Version {version}</p></body></html>", links.concat());
    html
}

fn haproxy_table(html: &mut String, haproxys: &[Haproxy]) {
    html.push_str("<table><tr><th>HAProxy<th>Up<th>Processes<th>Ports<th>Anomalies</tr>");
    for haproxy in haproxys {
        let up = match haproxy.up {
            Some(true) => "yes",
            Some(false) => "no",
            None => "could not be seen",
        };
        let standing = haproxy.anomalies.iter().filter(|anomaly| !anomaly.pending);
        let kinds: Vec<_> = standing.map(|anomaly| anomaly.kind.as_str()).collect();
        let _ = write!(
            html,
            "<tr><td>{}<td>{up}<td>{}<td>{}<td>{}</tr>",
            escape(&haproxy.name),
            haproxy.processes.len(),
            haproxy.ports.len(),
            if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") },
        );
    }
    html.push_str("</table>");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(escape("<a b='\"&>"), "&lt;a b=&#39;&quot;&amp;&gt;");
    }
}
