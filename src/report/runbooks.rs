//! The runbooks of `alerts/runbooks`, built into the program: there may be no network when they are needed.

use include_dir::{Dir, include_dir};

use crate::policy::kind::Kind;

static RUNBOOKS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/alerts/runbooks");

/// The runbook of an alert, or of the alert about a kind, in Markdown.
#[must_use]
pub fn runbook(name: &str) -> Option<&'static str> {
    let alert =
        Kind::from_name(name).map_or_else(|| name.to_owned(), |kind| kind.alert().to_owned());
    RUNBOOKS.get_file(format!("{alert}.md"))?.contents_utf8()
}

/// The names of all runbooks, which are those of the alerts, in alphabetical order.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let stems = RUNBOOKS.files().filter_map(|file| file.path().file_stem()?.to_str());
    let mut names: Vec<&'static str> = stems.collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_every_alert_has_a_runbook() {
        for kind in Kind::ALL {
            let text = runbook(kind.as_str()).unwrap_or_default();
            assert!(text.starts_with(&format!("# {}\n", kind.alert())), "{}", kind.as_str());
            let page = format!("/?haproxy=HAPROXY&kind={}`", kind.as_str());
            assert!(text.contains(&page), "{} does not lead to {page}", kind.alert());
        }
        assert!(names().len() > Kind::ALL.len());
        assert!(names().into_iter().all(|name| runbook(name).is_some()));
        assert_eq!(runbook("../README"), None);
    }
}
