//! What HAProxy itself says of a candidate, and what another version of it would change, as findings.

use std::path::Path;
use std::sync::Arc;

use super::finding::{Finding, Kind, Severity};
use crate::haproxy::config::{Place, SourceFile};
use crate::haproxy::messages::{Level, Message};
use crate::haproxy::versions::Note;

/// The answer of `haproxy -c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HAProxy accepts the configuration.
    pub accepted: bool,
    /// What it printed.
    pub messages: Vec<Message>,
}

/// What an error in a Lua script may come from.
const SCRIPTS_SEE_LESS: &str = "a script sees only the environment variables that the configuration or a \
    loaded script names; LUA_PATH is given only where one of them names it";

/// Adds HAProxy's messages to what was found without it. HAProxy decides: what it accepts is no error, and
/// what it refuses is one.
pub fn add_answer(findings: &mut Vec<Finding>, answer: &Answer, files: &[SourceFile]) {
    if answer.accepted {
        findings.iter_mut().filter(|finding| is_refusal(finding)).for_each(call_uncertain);
    }
    for message in &answer.messages {
        let same = |finding: &&mut Finding| {
            let refused = is_refusal(finding) && message.level == Level::Alert;
            refused && message.place.as_ref().is_some_and(|place| stands_at(finding, place))
        };
        match findings.iter_mut().find(same) {
            Some(finding) => finding.why.push(format!("HAProxy says: {}", message.text)),
            None => findings.push(finding(message, files)),
        }
    }
}

/// Adds what changes from the version that runs to the one that was asked. A line that HAProxy refused or
/// warned about already is explained there.
pub fn add_notes(findings: &mut Vec<Finding>, notes: &[Note], accepted: bool) {
    for note in notes {
        let source = format!("see HAProxy's {}", note.source);
        if let Some(finding) = findings.iter_mut().find(|finding| is_about(finding, note)) {
            if is_refusal(finding) {
                finding.kind = Kind::UpgradeRemoved;
            }
            finding.why.push(format!("{}; {source}", note.what));
            finding.help.extend(instead(note));
            continue;
        }
        let (kind, severity) = if note.is_removed && !accepted {
            (Kind::UpgradeRemoved, Severity::Error)
        } else {
            (Kind::UpgradeNote, Severity::Info)
        };
        findings.push(Finding {
            place: note.place.clone(),
            why: vec![source],
            help: instead(note).into_iter().collect(),
            ..Finding::of_file(kind, severity, &note.what)
        });
    }
}

/// HAProxy said of the same line what the note says: that it refuses it, or that it warns about it.
fn is_about(finding: &Finding, note: &Note) -> bool {
    let says =
        if note.is_removed { is_refusal(finding) } else { finding.kind == Kind::ConfigWarning };
    let place = note.place.as_ref().map(|place| (place.file.to_path_buf(), place.line));
    says && place.is_some_and(|place| stands_at(finding, &place))
}

fn instead(note: &Note) -> Option<String> {
    (!note.instead.is_empty()).then(|| note.instead.clone())
}

fn is_refusal(finding: &Finding) -> bool {
    finding.kind == Kind::ConfigInvalid && finding.severity == Severity::Error
}

/// HAProxy accepts what this reader refuses.
fn call_uncertain(finding: &mut Finding) {
    finding.kind = Kind::Uncertain;
    finding.severity = Severity::Warning;
    finding.label = std::mem::take(&mut finding.what);
    "HAProxy accepts this line, which could not be understood here".clone_into(&mut finding.what);
    finding.help.clear();
}

fn stands_at(finding: &Finding, (file, line): &(std::path::PathBuf, usize)) -> bool {
    finding.place.as_ref().is_some_and(|own| own.line == *line && *own.file == **file)
}

fn finding(message: &Message, files: &[SourceFile]) -> Finding {
    let (kind, severity, label) = match message.level {
        Level::Alert => (Kind::ConfigInvalid, Severity::Error, "HAProxy stops here"),
        Level::Warning => (Kind::ConfigWarning, Severity::Warning, "HAProxy warns about this line"),
    };
    let place = message.place.as_ref().map(|(file, line)| whole_line(file, *line, files));
    let is_of_script = message.level == Level::Alert && message.text.starts_with("Lua ");
    let why = is_of_script.then(|| SCRIPTS_SEE_LESS.to_owned());
    Finding {
        label: if place.is_some() { label.to_owned() } else { String::new() },
        place,
        why: why.into_iter().collect(),
        ..Finding::of_file(kind, severity, &message.text)
    }
}

/// The place of a line as a whole, without the space around its words.
fn whole_line(file: &Path, number: usize, files: &[SourceFile]) -> Place {
    let source = files.iter().find(|source| source.path == file);
    let text = source
        .and_then(|source| source.text.split(|byte| *byte == b'\n').nth(number.checked_sub(1)?));
    let text = text.unwrap_or_default();
    let start = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let end = text.trim_ascii_end().len().max(start + 1);
    Place { file: Arc::from(file), line: number, columns: start + 1..end + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::haproxy::config::{self, Launch};
    use crate::policy::Rules;

    fn message(level: Level, line: usize, text: &str) -> Message {
        Message { level, place: Some(("a.cfg".into(), line)), text: text.to_owned() }
    }

    fn judge(text: &str, answer: &Answer, notes: &[Note]) -> Vec<String> {
        let files = [SourceFile { path: "a.cfg".into(), text: text.as_bytes().to_vec() }];
        let declared = config::read(&files, &Launch::default());
        let mut findings = check::judge(&declared, &Rules::default(), None, 0.0);
        add_answer(&mut findings, answer, &files);
        add_notes(&mut findings, notes, answer.accepted);
        let shown = findings.iter().map(|finding| {
            let place = finding.place.as_ref();
            let (severity, kind) = (finding.severity.as_str(), finding.kind.as_str());
            let place = place.map(|place| format!(" {}:{:?}", place.line, place.columns));
            let (what, why) = (&finding.what, finding.why.join("; "));
            format!("{severity} {kind}{}: {what} [{why}]", place.unwrap_or_default())
        });
        shown.collect()
    }

    #[test]
    fn what_haproxy_refuses_is_an_error_once() {
        let refused = Answer {
            accepted: false,
            messages: vec![
                message(Level::Alert, 2, "invalid port"),
                message(Level::Alert, 3, "unknown keyword 'foo'"),
                message(Level::Warning, 1, "a warning"),
                Message { level: Level::Alert, place: None, text: "no such backend".to_owned() },
            ],
        };
        let shown = judge("frontend a\n bind :x\n  foo bar \n", &refused, &[]);
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert!(shown[0].starts_with("error config_invalid 2:7..9"), "{shown:?}");
        assert!(shown[0].ends_with("[HAProxy says: invalid port]"), "{shown:?}");
        assert_eq!(shown[1], "error config_invalid 3:3..10: unknown keyword 'foo' []");
        assert_eq!(shown[2], "warning config_warning 1:1..11: a warning []");
        assert_eq!(shown[3], "error config_invalid: no such backend []");
    }

    #[test]
    fn an_error_of_a_script_says_what_it_could_not_see() {
        let text = "Lua runtime error: no TOKEN";
        let refused = Answer { accepted: false, messages: vec![message(Level::Alert, 1, text)] };
        let shown = judge("frontend a\n", &refused, &[]);
        assert!(shown[0].contains(SCRIPTS_SEE_LESS), "{shown:?}");
    }

    #[test]
    fn what_haproxy_accepts_is_no_error() {
        let accepted = Answer { accepted: true, messages: Vec::new() };
        let shown = judge("frontend a\n bind :x\n", &accepted, &[]);
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert!(shown[0].starts_with("warning uncertain 2:7..9: HAProxy accepts"), "{shown:?}");
    }

    #[test]
    fn a_removed_keyword_is_explained_where_it_is_refused() {
        let place = Place { file: Arc::from(Path::new("a.cfg")), line: 2, columns: 2..14 };
        let note = |is_removed, place: Option<Place>| Note {
            is_removed,
            place,
            what: "HAProxy 2.7 refuses 'bind-process'".to_owned(),
            instead: "use thread".to_owned(),
            source: "src",
        };
        let text = "frontend a\n bind-process 1\n";
        let refused = Answer {
            accepted: false,
            messages: vec![message(Level::Alert, 2, "not supported any more")],
        };
        let shown = judge(text, &refused, &[note(true, Some(place.clone())), note(false, None)]);
        assert_eq!(
            shown,
            [
                "error upgrade_removed 2:2..16: not supported any more \
                 [HAProxy 2.7 refuses 'bind-process'; see HAProxy's src]",
                "info upgrade_note: HAProxy 2.7 refuses 'bind-process' [see HAProxy's src]",
            ]
        );
        let warned = Answer {
            accepted: true,
            messages: vec![message(Level::Warning, 2, "it is deprecated")],
        };
        let shown = judge(text, &warned, &[note(false, Some(place.clone()))]);
        assert_eq!(shown.len(), 1, "the warning and the note are one: {shown:?}");
        assert!(shown[0].starts_with("warning config_warning 2:2..16: it is"), "{shown:?}");
        assert!(shown[0].ends_with("see HAProxy's src]"), "{shown:?}");
        let accepted = Answer { accepted: true, messages: Vec::new() };
        let shown = judge(text, &accepted, &[note(true, Some(place))]);
        assert!(shown[0].starts_with("info upgrade_note 2:2..14"), "the binary wins: {shown:?}");
    }
}
