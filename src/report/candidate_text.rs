//! The result of `check` for a person, in the style of rustc: what is wrong, the line with its words
//! underlined, why, and how to fix it.

use std::collections::BTreeMap;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::candidate::{Asked, Candidate, summary};
use super::changes;
use super::text::{excerpt, printable};
use crate::check::{Finding, Severity};
use crate::haproxy::config::{Place, SourceFile};

/// The most findings of one kind and severity that are shown in full. A configuration of 10,000 ports
/// may have as many.
const MAX_OF_A_KIND: usize = 20;

/// Returns the whole report.
#[must_use]
pub fn text(candidates: &[Candidate], colour: bool, width: usize) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(width);
    let mut text = String::new();
    for candidate in candidates {
        let mut shown: BTreeMap<_, usize> = BTreeMap::new();
        let mut push = |part: &str| {
            text.push_str(part);
            text.push('\n');
        };
        for severity in [Severity::Error, Severity::Warning, Severity::Info] {
            for finding in candidate.findings.iter().filter(|f| f.severity == severity) {
                let count = shown.entry((severity, finding.kind)).or_default();
                *count += 1;
                if *count <= MAX_OF_A_KIND {
                    push(&render(&candidate.files, finding, &renderer));
                    push("");
                }
            }
        }
        for ((severity, kind), count) in shown {
            if count > MAX_OF_A_KIND {
                let more = count - MAX_OF_A_KIND;
                push(&format!("{}[{}]: {more} more like these", severity.as_str(), kind.as_str()));
            }
        }
        let lines = resolved(candidate).into_iter().chain(changed(candidate));
        for line in lines.chain(candidate.asked.iter().map(asked)) {
            push(&line);
        }
        for entry in &candidate.unseen {
            let subject = printable(&entry.subject);
            push(&format!("could not read {subject}: {}", printable(&entry.reason)));
        }
        push(&summary(candidate));
    }
    text
}

/// What the host names stand for, each name and address once.
fn resolved(candidate: &Candidate) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (name, address) in candidate.resolved() {
        let family = name.query.family.map(|family| format!("{}@", family.as_str()));
        let name = printable(&name.query.name);
        let line = format!("{}{name} resolves to {address}", family.unwrap_or_default());
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.len() > MAX_OF_A_KIND {
        let more = lines.len() - MAX_OF_A_KIND;
        lines.truncate(MAX_OF_A_KIND);
        lines.push(format!("{more} more host names resolve"));
    }
    lines
}

/// What the reload changes, for the service that it is about.
fn changed(candidate: &Candidate) -> Vec<String> {
    let name = candidate.service.as_deref().map(printable).unwrap_or_default();
    let lines = candidate.changes.iter().flat_map(changes::lines);
    lines.map(|line| format!("{name}: {line}")).collect()
}

/// Says which HAProxy was asked, and what it answered.
fn asked(asked: &Asked) -> String {
    if let Some(why) = &asked.left_out {
        return format!("HAProxy itself was not asked: {}", printable(why));
    }
    let version = asked.version.map(|version| format!(" {version}")).unwrap_or_default();
    let answer = match asked.accepted {
        Some(true) => "accepts this configuration",
        Some(false) => "refuses this configuration",
        None => "gave no answer",
    };
    format!("HAProxy{version} ({}) {answer}", printable(&asked.path.to_string_lossy()))
}

/// The line of a place, if the files have it.
fn line<'a>(files: &'a [SourceFile], place: &Place) -> Option<&'a [u8]> {
    let file = files.iter().find(|file| file.path == *place.file)?;
    file.text.split(|&byte| byte == b'\n').nth(place.line.checked_sub(1)?)
}

/// A finding that quotes its lines in the files.
fn render(files: &[SourceFile], finding: &Finding, renderer: &Renderer) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let title = level.primary_title(printable(&finding.what)).id(finding.kind.as_str());
    let mut group = Group::with_title(title);
    let label = printable(&finding.label);
    if let Some(place) = &finding.place {
        group = group.element(snippet(files, place, AnnotationKind::Primary, &label));
    }
    if let Some((place, label)) = finding.context.as_deref() {
        group = group.element(snippet(files, place, AnnotationKind::Context, &printable(label)));
    }
    for fact in &finding.why {
        group = group.element(Level::NOTE.message(printable(fact)));
    }
    for help in &finding.help {
        group = group.element(Level::HELP.message(printable(help)));
    }
    renderer.render(&[group])
}

fn snippet(
    files: &[SourceFile],
    place: &Place,
    kind: AnnotationKind,
    label: &str,
) -> Snippet<'static, Annotation<'static>> {
    let line = line(files, place).unwrap_or_default();
    let (text, range) = excerpt(line.strip_suffix(b"\r").unwrap_or(line), &place.columns);
    Snippet::source(text)
        .line_start(place.line.max(1))
        .path(printable(&place.file.to_string_lossy()))
        .annotation(kind.span(range).label(label.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::haproxy::config::{Launch, read};
    use crate::policy::Rules;

    fn said(text: &[u8]) -> String {
        let files = vec![SourceFile { path: "a\x1b.cfg".into(), text: text.to_vec() }];
        let declared = read(&files, &Launch::default());
        let rules = Rules { allowed_ports: Some(vec![]), ..Rules::default() };
        let findings = check::judge(&declared, &rules, None, 0.0);
        let candidate = Candidate { files, declared, findings, ..Candidate::default() };
        super::text(&[candidate], false, 100)
    }

    #[test]
    fn the_words_of_a_finding_are_underlined() {
        let text = said(b"frontend a\n    bind :80\n");
        let expected = "error[port_out_of_range]: port 80 is not allowed
 --> a\\u{1b}.cfg:2:10
  |
2 |     bind :80
  |          ^^^ frontend a tcp 0.0.0.0:80 would listen here
  |
  = note: allowed_ports has no entry for it
  = help: choose a port that is allowed, or add this one to allowed_ports in --config.file

1 port in 1 file: 1 error
";
        assert_eq!(text, expected);
    }

    #[test]
    fn many_similar_findings_are_counted() {
        let binds = " bind :80\n".repeat(50);
        let text = said(format!("frontend a\n{binds}").as_bytes());
        assert!(text.contains("error[port_out_of_range]: 30 more like these"), "{text}");
    }

    #[test]
    fn hostile_lines_are_short_and_escaped() {
        let long = [b"frontend a\n bind \x1b[2J:80 \"".to_vec(), vec![7; 1 << 20]].concat();
        let binary: Vec<u8> = (0..=255u8).cycle().take(1 << 16).collect();
        for text in [long, binary] {
            let said = said(&text);
            assert!(said.len() < 64 << 10, "{} bytes", said.len());
            assert!(said.lines().all(|line| line.chars().count() < 400), "{said}");
            assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
        }
    }
}
