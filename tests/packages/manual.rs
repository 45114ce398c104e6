//! `docs/install.md`, whose commands the tests run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The commands of each section of the page, by its title.
pub struct Manual(BTreeMap<String, Vec<String>>);

impl Manual {
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md");
        let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let (mut title, mut inside) = (String::new(), false);
        for line in fs::read_to_string(path).unwrap().lines() {
            if line.starts_with("```") {
                inside = line == "```console";
            } else if inside {
                let command = line.strip_prefix("# ").unwrap_or_else(|| panic!("{line:?}"));
                sections.entry(title.clone()).or_default().push(command.to_owned());
            } else if let Some(heading) = line.strip_prefix("## ") {
                heading.clone_into(&mut title);
            }
        }
        Self(sections)
    }

    pub fn titles(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The commands of a section.
    #[track_caller]
    pub fn commands(&self, title: &str) -> &[String] {
        self.0.get(title).unwrap_or_else(|| panic!("no commands below {title:?}"))
    }

    /// The command of a section that begins so, after those that go to its folder.
    #[track_caller]
    pub fn command(&self, title: &str, beginning: &str) -> String {
        let goes = |command: &&String| command.starts_with("cd ") || command.starts_with(beginning);
        let found: Vec<String> = self.commands(title).iter().filter(goes).cloned().collect();
        assert!(found.iter().any(|command| command.starts_with(beginning)), "{title}: {found:?}");
        found.join(" && ")
    }

    /// All of them as one line of shell that ends at the first failure.
    #[track_caller]
    pub fn script(&self, title: &str) -> String {
        self.commands(title).join(" && ")
    }
}

/// Each section is run by a test; these are all.
#[test]
fn no_section_of_the_page_is_left_out() {
    let run_by_tests = [
        "Backups",
        "Build",
        "Configure",
        "Containers",
        "Debian",
        "Reaper",
        "Red Hat",
        "Remove from Debian",
        "Remove from Red Hat",
        "Remove what is static",
        "Socket",
        "Static",
        "Upgrade on Debian",
        "Upgrade on Red Hat",
        "Verify",
    ];
    assert_eq!(Manual::read().titles(), run_by_tests);
}
