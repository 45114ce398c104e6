//! Walks through the files line by line and hands each line to its section (`parse_cfg` in
//! `src/cfgparse.c`).

use std::path::Path;
use std::sync::Arc;

use super::blocks::{Blocks, Counts};
use super::context::{Context, Flow};
use super::findings::Line;
use super::globals;
use super::launch::SourceFile;
use super::lexer::{self, LexError, Words};
use super::peers::Peers;
use super::proxies::Proxy;
use super::sources;
use super::statement::Statement;
use super::variables::{Dialect, Reason};
use crate::model::declared::{Place, Possible};

/// Number of errors after which HAProxy abandons a file.
const MOST_ERRORS: usize = 50;

/// Keywords that begin a section in some version from 1.8 to 3.5 (`REGISTER_CONFIG_SECTION`).
const SECTIONS: [&[u8]; 24] = [
    b"acme",
    b"backend",
    b"cache",
    b"crt-store",
    b"defaults",
    b"fcgi-app",
    b"frontend",
    b"global",
    b"healthcheck",
    b"http-errors",
    b"listen",
    b"log-forward",
    b"log-profile",
    b"mailers",
    b"namespace_list",
    b"peers",
    b"program",
    b"resolvers",
    b"ring",
    b"spoe-agent",
    b"spoe-group",
    b"spoe-message",
    b"traces",
    b"userlist",
];

/// The section that a line belongs to.
enum Section {
    /// No section has begun, so that only the first line of one may follow.
    None,
    Global,
    Proxy(Proxy),
    Peers(Peers),
    /// A section that opens no socket.
    Other,
}

/// Reads every file. With `discovering` set it reads only what HAProxy 3.1 and later take from
/// their first pass.
pub(super) fn walk(files: &[SourceFile], context: &mut Context<'_>, discovering: bool) {
    for file in files {
        let mut walker = Walker {
            file: Arc::from(file.path.as_path()),
            name: file.path.as_os_str().as_encoded_bytes(),
            context,
            discovering,
            section: Section::None,
            section_doubt: None,
            section_name: None,
            section_keyword: Vec::new(),
            blocks: Blocks::default(),
            capacity: 0,
        };
        if walker.file(&file.text) == Err(Flow::Abort) {
            return;
        }
    }
}

/// A file while it is read.
pub(super) struct Walker<'c, 'a, 'f> {
    pub(super) file: Arc<Path>,
    name: &'f [u8],
    pub(super) context: &'c mut Context<'a>,
    pub(super) discovering: bool,
    section: Section,
    /// Why the section may be another one: it began under a condition that is not known.
    section_doubt: Option<Reason>,
    /// The value of `.SECTION`.
    section_name: Option<Vec<u8>>,
    /// The keyword that began the section.
    section_keyword: Vec<u8>,
    pub(super) blocks: Blocks,
    /// Size of the buffer into which HAProxy splits lines.
    capacity: usize,
}

impl Walker<'_, '_, '_> {
    fn file(&mut self, text: &[u8]) -> Result<(), Flow> {
        let outcome = self.lines(text);
        self.close();
        outcome?;
        if let Some(line) = self.blocks.open_line() {
            let place = self.place(line, 0, 1);
            self.error(place, "this '.if' is not closed", Some("add '.endif'"));
            return Err(Flow::Abort);
        }
        Ok(())
    }

    fn lines(&mut self, text: &[u8]) -> Result<(), Flow> {
        let errors_before = self.context.findings.declared.errors.len();
        let mut number = 0;
        let mut rest = text;
        while !rest.is_empty() {
            number += 1;
            let errors = self.context.findings.declared.errors.len() - errors_before;
            if errors >= MOST_ERRORS {
                break;
            }
            let end = rest.iter().position(|&byte| byte == b'\n');
            let whole = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
            // HAProxy ends the line at a zero byte, and stops reading the file after it.
            let zero = whole.iter().position(|&byte| byte == 0);
            let line = whole.get(..zero.unwrap_or(whole.len())).unwrap_or_default();
            match self.line(line, number) {
                Ok(()) | Err(None) => {}
                Err(Some(Flow::EndFile)) => break,
                Err(Some(flow)) => return Err(flow),
            }
            if let Some(zero) = zero {
                let place = self.place(number, zero, zero + 1);
                self.error(place, "zero byte in the file", Some("a configuration must be text"));
                break;
            }
            if end.is_none() {
                let place = self.place(number, line.len(), line.len() + 1);
                let help = Some("end the last line with a newline; the file may be truncated");
                self.error(place, "no newline at the end of the file", help);
            }
        }
        Ok(())
    }

    pub(super) fn place(&self, line: usize, start: usize, end: usize) -> Place {
        Place { file: Arc::clone(&self.file), line, columns: start + 1..end.max(start + 1) + 1 }
    }

    pub(super) fn error(
        &mut self,
        place: Place,
        what: impl Into<String>,
        help: Option<&'static str>,
    ) {
        if !self.discovering {
            self.context.findings.error(place, what, help, None);
        }
    }

    /// Reads one line. `Err(None)`: the line has an error, which was reported.
    fn line(&mut self, line: &[u8], number: usize) -> Result<(), Option<Flow>> {
        let indent = line.iter().take_while(|&&byte| lexer::is_space(byte)).count();
        if line.get(indent) == Some(&b'[') {
            return self.scope(line, indent, number);
        }
        if self.discovering && self.says_nothing_in_discovery(line, indent) {
            return Ok(());
        }
        let setting = lexer::Setting {
            variables: &self.context.variables,
            dialect: self.context.dialect,
            file: self.name,
            line: number,
            section: self.section_name.as_deref(),
        };
        let words = match lexer::split(line, &setting, &mut self.context.room) {
            Ok(words) => words,
            Err(LexError { source, what, help }) => {
                let place = self.place(number, source.start, source.end);
                self.error(place, what, help);
                return Err(None);
            }
        };
        self.default_value(&words, number)?;
        let Some(first) = words.list.first() else {
            return Ok(());
        };
        if let Some(doubt) = first.doubt.clone() {
            if self.blocks.counts() != Counts::No && !self.discovering {
                let place = self.place(number, first.source.start, first.source.end);
                let why = format!("the first word decides what the line means, and {doubt}");
                let anything = vec![Possible::default()];
                self.context.findings.uncertain(place, why, anything);
            }
            return Ok(());
        }
        if matches!(first.text.as_slice(), b".if" | b".elif" | b".else" | b".endif") {
            return self.block(&words.list, number).map_err(Some);
        }
        let doubt = match self.blocks.counts() {
            Counts::No => return Ok(()),
            Counts::Yes => None,
            Counts::Maybe(reason) => Some(reason),
        };
        self.counting_line(&words, number, doubt.as_ref())
    }

    /// The line cannot matter in the first pass, which needs only the global sections. It saves
    /// splitting most lines.
    fn says_nothing_in_discovery(&self, line: &[u8], indent: usize) -> bool {
        let rest = line.get(indent..).unwrap_or_default();
        let length = rest.iter().take_while(|&&byte| !lexer::is_space(byte)).count();
        let first = rest.get(..length).unwrap_or_default();
        !matches!(self.section, Section::Global)
            && !SECTIONS.contains(&first)
            && first.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    }

    /// Refuses a `${NAME-default}` on a line that outgrows HAProxy's buffer, such as the first line of a
    /// file. Up to 3.5 HAProxy's first attempt overwrites the default, and the second one fails.
    fn default_value(&mut self, words: &Words, number: usize) -> Result<(), Option<Flow>> {
        let emitted = words.emitted.max(1);
        if emitted <= self.capacity {
            return Ok(());
        }
        self.capacity = emitted.next_multiple_of(1024);
        let Some(brace) = words.default_at else {
            return Ok(());
        };
        if self.context.launch.version.is_some_and(|version| !version.is_at_least(3, 6)) {
            let place = self.place(number, brace, brace + 1);
            let what = "HAProxy cannot expand a variable's default value on the first line of a file, or on one far longer than those above it";
            self.error(place, what, Some("put a longer line above it, such as a comment"));
            return Err(None);
        }
        Ok(())
    }

    /// Reads a line that is no part of an `.if` block's frame, and that no condition rules out.
    fn counting_line(
        &mut self,
        words: &Words,
        number: usize,
        doubt: Option<&Reason>,
    ) -> Result<(), Option<Flow>> {
        let file = Arc::clone(&self.file);
        let all = Line { words: &words.list, file: &file, number, doubt };
        if all.text(0).starts_with(b".") {
            return self.directive(&all).map_err(Some);
        }
        let empty = words.list.iter().position(|word| word.text.is_empty() && word.doubt.is_none());
        if let (Some(empty), Dialect::Strict, false) =
            (empty, self.context.dialect, self.discovering)
        {
            let help =
                "if a variable is empty, set it, or write \"${NAME[*]}\" to get no word at all";
            self.context.findings.refuse(&all, empty, "empty argument", Some(help));
            return Err(None);
        }
        let mut line = Line { words: words.arguments(), ..all };
        self.note(&line);
        if matches!(line.text(0), b"no" | b"default") {
            line.words = line.rest(1);
            if matches!(line.text(0), b"bind" | b"stats" | b"disabled" | b"enabled" | b"peer") {
                let (first, second) = (all.string(0), line.string(0));
                let what = format!("'{first}' cannot be used before '{second}'");
                self.context.findings.refuse(&all, 0, what, None);
                return Err(None);
            }
            // A keyword that can be negated opens no socket, but it has to be in a section.
            if !matches!(self.section, Section::None) {
                return Ok(());
            }
        }
        if line.words.is_empty() {
            return Ok(());
        }
        match self.keyword(&line) {
            Err(Flow::Abort) if doubt.is_some() || self.discovering => Ok(()),
            outcome => outcome.map_err(Some),
        }
    }

    /// Learns from where the line has connections opened, and keeps it if all lines were asked for.
    fn note(&mut self, line: &Line<'_>) {
        if !self.discovering {
            sources::learn(&mut self.context.findings.declared.sources, line);
        }
        if SECTIONS.contains(&line.text(0)) {
            self.section_keyword = line.text(0).to_vec();
        }
        if let (false, Some(kept)) = (line.words.is_empty(), &mut self.context.statements) {
            let doubt = line.doubt.or(self.section_doubt.as_ref());
            kept.push(Statement::of(&Line { doubt, ..*line }, &self.section_keyword));
        }
    }

    /// Reads a line by its keyword, which belongs to the section or begins the next one.
    fn keyword(&mut self, line: &Line<'_>) -> Result<(), Flow> {
        if SECTIONS.contains(&line.text(0)) {
            self.finish_section(line);
            self.section = Section::Other;
            self.section = self.open_section(line)?;
            return Ok(());
        }
        let discovering = self.discovering;
        let section_doubt = self.section_doubt.clone();
        let line = &Line { doubt: line.doubt.or(section_doubt.as_ref()), ..*line };
        match &mut self.section {
            Section::Global if !matches!(line.text(0), b"bind" | b"dgram-bind") => {
                globals::line(line, discovering, self.context);
            }
            _ if discovering => {}
            Section::Proxy(proxy) => proxy.line(line, self.context),
            Section::Peers(peers) => peers.line(line, self.context),
            Section::Global | Section::Other => self.misplaced_bind(line),
            Section::None => {
                let what = format!("'{}' is outside of any section", line.string(0));
                let help = Some("begin the file with a section, such as global or defaults");
                self.context.findings.refuse(line, 0, what, help);
            }
        }
        Ok(())
    }

    /// Reports a bind in a section that has no binds in any version up to 3.5.
    fn misplaced_bind(&mut self, line: &Line<'_>) {
        if !matches!(line.text(0), b"bind" | b"dgram-bind") {
            return;
        }
        let version = self.context.launch.version;
        if line.doubt.is_none() && version.is_some_and(|version| !version.is_at_least(3, 6)) {
            let what = format!("'{}' is not allowed in this section", line.string(0));
            let help = Some("is the line 'frontend NAME' missing above it?");
            return self.context.findings.refuse(line, 0, what, help);
        }
        let known = "no version of HAProxy up to 3.5 has bind lines in this section";
        let why = line.doubt.map_or(known, |doubt| &**doubt);
        let anything = vec![Possible::default()];
        self.context.findings.uncertain(line.place(1), why, anything);
    }

    /// Opens the section that a line begins.
    fn open_section(&mut self, line: &Line<'_>) -> Result<Section, Flow> {
        Ok(match line.text(0) {
            b"global" => Section::Global,
            b"defaults" | b"frontend" | b"listen" | b"backend" | b"log-forward"
                if !self.discovering =>
            {
                Section::Proxy(Proxy::open(line, self.context)?)
            }
            b"peers" if !self.discovering => Section::Peers(Peers::open(line, self.context)?),
            _ => Section::Other,
        })
    }

    /// Ends the present section because `line` begins a new one.
    fn finish_section(&mut self, line: &Line<'_>) {
        self.close();
        let name = usize::from(!line.text(1).is_empty());
        self.section_name = Some(line.text(name).to_vec());
        self.section_doubt = line.doubt.cloned();
    }

    fn close(&mut self) {
        match std::mem::replace(&mut self.section, Section::None) {
            Section::Proxy(proxy) => proxy.close(self.context),
            Section::Peers(peers) if !self.discovering => peers.close(self.context),
            _ => {}
        }
    }
}
