//! The blocks of commands of the pages, and the marks before them.

use std::path::PathBuf;

use super::{pages, read};

/// The languages of blocks that a shell would run; a block without a language is one.
const COMMANDS: [&str; 4] = ["", "console", "sh", "bash"];
pub const NOT_RUN: &str = "*Not run by the tests: ";

/// A block of commands.
#[derive(Debug)]
pub struct Block {
    pub page: PathBuf,
    pub line: usize,
    pub language: String,
    /// The line of text before it.
    pub mark: String,
    pub content: String,
}

impl Block {
    pub fn place(&self) -> String {
        format!("{}:{}", self.page.display(), self.line)
    }

    pub fn is_of_a_runbook(&self) -> bool {
        self.page.starts_with("alerts/runbooks")
    }

    /// The commands: a script is one. In a runbook `#` begins a line of an answer.
    pub fn commands(&self) -> Vec<String> {
        if self.language == "sh" || self.language == "bash" {
            return vec![self.content.clone()];
        }
        let mut commands: Vec<String> = Vec::new();
        for line in self.content.lines() {
            let as_root = line.strip_prefix("# ").filter(|_| !self.is_of_a_runbook());
            if let Some(command) = line.strip_prefix("$ ").or(as_root) {
                commands.push(command.to_owned());
            }
        }
        commands
    }
}

pub fn blocks() -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    for page in pages() {
        let content = read(&page);
        let mut before = String::new();
        let mut inside: Option<Block> = None;
        for (number, line) in content.lines().enumerate() {
            let trimmed = line.trim_start();
            match (trimmed.strip_prefix("```"), inside.take()) {
                (Some(language), None) => {
                    inside = Some(Block {
                        page: page.clone(),
                        line: number + 1,
                        language: language.trim().to_owned(),
                        mark: before.clone(),
                        content: String::new(),
                    });
                }
                (Some(_), Some(block)) => found.push(block),
                (None, Some(mut block)) => {
                    block.content += trimmed;
                    block.content.push('\n');
                    inside = Some(block);
                }
                (None, None) if !trimmed.is_empty() => trimmed.clone_into(&mut before),
                (None, None) => {}
            }
        }
        assert!(inside.is_none(), "{}: a block does not end", page.display());
    }
    found.retain(|block| COMMANDS.contains(&block.language.as_str()));
    found
}

/// What a mark says: `run by tests/FILE`, or `run on a … host: CODES`.
pub fn said(mark: &str) -> Option<&str> {
    mark.strip_prefix("<!-- run ")?.strip_suffix(" -->")
}

/// The test that a page as a whole is run by.
pub fn test_of(page: &str) -> Option<&str> {
    page.lines().take(4).find_map(|line| said(line)?.strip_prefix("by "))
}
