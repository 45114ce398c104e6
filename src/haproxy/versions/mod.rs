//! What changes between two versions of HAProxy for a given configuration, where it bears on processes,
//! ports, sockets and reloads, or where the newer version refuses a line.

pub mod behaviour;
pub mod branch;
pub mod keywords;

use self::behaviour::{BEHAVIOURS, Concern, Setup};
use self::branch::Branch;
use self::keywords::{KEYWORDS, Keyword};
use super::config::{Launch, Statement};
use crate::model::declared::Place;

/// What a step from one version to another changes for one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The newer version refuses the line.
    pub is_removed: bool,
    /// The line it is about; `None` if it is about no single line.
    pub place: Option<Place>,
    /// What changes, in one sentence without a full stop.
    pub what: String,
    /// What to do about it, as a sentence without a full stop; empty if there is nothing to do.
    pub instead: String,
    /// Where HAProxy documents it.
    pub source: &'static str,
}

/// Lists what changes between the branches, oldest change first. Going back to an older version is not
/// described: nothing is returned for it.
#[must_use]
pub fn notes(statements: &[Statement], launch: &Launch, from: Branch, to: Branch) -> Vec<Note> {
    let crossed = |branch: Branch| from < branch && branch <= to;
    let mut notes: Vec<(Branch, Note)> = Vec::new();
    for statement in statements {
        for keyword in KEYWORDS.iter().filter(|keyword| keyword.is_in(statement)) {
            let removed = keyword.removed.filter(|branch| crossed(*branch));
            let deprecated = keyword.deprecated.filter(|branch| crossed(*branch));
            let Some(branch) = removed.or(deprecated) else { continue };
            let verb = match removed {
                Some(_) if statement.is_certain => "refuses",
                Some(_) => "would refuse",
                None => "deprecates",
            };
            let note = Note {
                is_removed: removed.is_some() && statement.is_certain,
                place: Some(statement.place.clone()),
                what: format!("HAProxy {branch} {verb} '{}'", keyword.words),
                instead: instead(keyword),
                source: keyword.source,
            };
            notes.push((branch, note));
        }
    }
    let setup = Setup { statements, launch };
    for behaviour in BEHAVIOURS.iter().filter(|behaviour| crossed(behaviour.branch)) {
        let place = match (behaviour.concerns)(&setup) {
            Concern::None => continue,
            Concern::Whole => None,
            Concern::Line(place) => Some(place.clone()),
        };
        let note = Note {
            is_removed: behaviour.is_refused,
            place,
            what: format!("from HAProxy {} on, {}", behaviour.branch, behaviour.what),
            instead: behaviour.instead.to_owned(),
            source: behaviour.source,
        };
        notes.push((behaviour.branch, note));
    }
    notes.sort_by_key(|(branch, _)| *branch);
    notes.into_iter().map(|(_, note)| note).collect()
}

fn instead(keyword: &Keyword) -> String {
    if keyword.instead.is_empty() { String::new() } else { format!("use {}", keyword.instead) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::{self, SourceFile};

    fn between(text: &str, launch: &Launch, from: (u64, u64), to: (u64, u64)) -> Vec<String> {
        let file = SourceFile { path: "f".into(), text: text.as_bytes().to_vec() };
        let branch = |(major, minor)| Branch { major, minor };
        let statements = config::statements(&[file], launch);
        let notes = notes(&statements, launch, branch(from), branch(to));
        let line = |note: &Note| note.place.as_ref().map_or(0, |place| place.line);
        let mark = |note: &Note| if note.is_removed { "!" } else { "" };
        notes.iter().map(|note| format!("{}{}: {}", mark(note), line(note), note.what)).collect()
    }

    #[test]
    fn only_what_lies_between_the_two_versions() {
        let text = "global\n  nbproc 2\nlisten a\n  bind-process 1\n  dispatch 127.0.0.1:1\n";
        let (none, launch) = (Vec::<String>::new(), Launch::default());
        let about = |from, to| {
            let notes = between(text, &launch, from, to);
            notes.into_iter().filter(|note| note.contains('\'')).collect::<Vec<_>>()
        };
        assert_eq!(about((2, 6), (2, 8)), ["!4: HAProxy 2.7 refuses 'bind-process'"]);
        assert_eq!(about((2, 8), (3, 2)), none);
        assert_eq!(about((3, 2), (3, 4)), ["5: HAProxy 3.3 deprecates 'dispatch'"]);
        assert_eq!(about((3, 4), (2, 6)), none, "a step back");
        let all = about((2, 4), (3, 5));
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(all[0], "!2: HAProxy 2.5 refuses 'nbproc'");
    }

    #[test]
    fn a_line_that_may_not_count_is_no_error() {
        let text = "global\n.if feature(QUIC)\n  stats bind-process 1\n.endif\n";
        let notes = between(text, &Launch::default(), (2, 6), (2, 8));
        let about: Vec<&String> = notes.iter().filter(|note| note.contains('\'')).collect();
        assert_eq!(about, ["3: HAProxy 2.7 would refuse 'stats bind-process'"]);
    }

    #[test]
    fn what_a_master_does_otherwise_concerns_masters() {
        let quiet = "global\n  cpu-policy none\n  fd-hard-limit 9\n";
        let master = Launch { master_worker: true, ..Launch::default() };
        let of = |launch: &Launch| between(quiet, launch, (3, 2), (3, 4));
        assert!(of(&master).iter().any(|note| note.contains("50 reloads")), "{:?}", of(&master));
        assert!(!of(&Launch::default()).iter().any(|note| note.contains("reloads")));
        let set = "global\n  mworker-max-reloads 1000\n";
        let notes = between(set, &master, (3, 2), (3, 4));
        assert!(!notes.iter().any(|note| note.contains("50 reloads")), "{notes:?}");
    }

    #[test]
    fn a_master_socket_without_a_master() {
        let launch = Launch { master_sockets: vec!["/run/m".to_owned()], ..Launch::default() };
        let notes = between("global\n", &launch, (2, 8), (3, 0));
        assert!(
            notes.iter().any(|note| note.starts_with("!0:") && note.contains("-S")),
            "{notes:?}"
        );
    }

    #[test]
    fn what_to_do_is_a_sentence() {
        let file = SourceFile {
            path: "f".into(),
            text: b"global\n  nbproc 2\n  thread-groups 2\nlisten a\n  bind-process 1\n".to_vec(),
        };
        let launch = Launch { master_sockets: vec!["/run/m".to_owned()], ..Launch::default() };
        let branch = |minor| Branch { major: 2, minor };
        let statements = config::statements(&[file], &launch);
        let notes = notes(&statements, &launch, branch(2), branch(9));
        let mut done: Vec<&str> = notes.iter().map(|note| note.instead.as_str()).collect();
        done.retain(|words| !words.is_empty());
        let expected = [
            "raise LimitNOFILE of its unit, or write 'no strict-limits'",
            "use nbthread (automatic)",
            "use bind … thread",
            "to keep it as it was, write tune.listener.default-shards by-process",
            "add -W or -Ws to its arguments, or drop -S",
        ];
        assert_eq!(done, expected);
    }
}
