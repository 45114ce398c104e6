//! Reads the lines that belong to no section: scopes, the frame of `.if` blocks, and messages
//! (configuration manual, section 2.4).

use std::sync::Arc;

use super::blocks::Counts;
use super::conditions;
use super::context::Flow;
use super::findings::Line;
use super::lexer::{self, Word};
use super::predicates::World;
use super::proxies::is_identifier;
use super::truth::Truth;
use super::walker::Walker;

impl Walker<'_, '_, '_> {
    /// Reads `[SCOPE]`, a name alone on its line, which has no effect on later lines.
    pub(super) fn scope(
        &mut self,
        line: &[u8],
        indent: usize,
        number: usize,
    ) -> Result<(), Option<Flow>> {
        let inside = line.get(indent + 1..).unwrap_or_default();
        let close = inside.iter().position(|&byte| byte == b']');
        let name = close.and_then(|close| inside.get(..close)).unwrap_or_default();
        let after = close.and_then(|close| inside.get(close + 1..)).unwrap_or_default();
        let next = after.iter().find(|&&byte| !lexer::is_space(byte));
        let what = if name.is_empty() {
            "a scope needs a name"
        } else if !is_identifier(name) {
            "the name of the scope has a character that is not permitted"
        } else if next.is_some_and(|&byte| byte != b'#') {
            "nothing may follow a scope on its line"
        } else {
            return Ok(());
        };
        let place = self.place(number, indent, line.len());
        self.error(place, what, Some("write [NAME]"));
        if name.is_empty() { Err(None) } else { Err(Some(Flow::Abort)) }
    }

    /// Reads `.if`, `.elif`, `.else` and `.endif`.
    pub(super) fn block(&mut self, words: &[Word], number: usize) -> Result<(), Flow> {
        let file = Arc::clone(&self.file);
        let line = Line { words, file: &file, number, doubt: None };
        let context = &*self.context;
        let condition = || {
            if let Some(doubt) = line.doubt_to(words.len()) {
                return Ok(Truth::Unknown(Arc::clone(doubt)));
            }
            let texts: Vec<&[u8]> = line.rest(1).iter().map(|word| word.text.as_slice()).collect();
            let world = World {
                variables: &context.variables,
                launch: context.launch,
                switched: &context.switched,
            };
            conditions::evaluate(&texts.join(&b' '), &world)
        };
        let outcome = match line.text(0) {
            b".if" => self.blocks.open(number, condition),
            b".elif" => self.blocks.otherwise_if(condition),
            keyword => {
                if !line.text(1).is_empty() {
                    let what = format!("unexpected argument to '{}'", line.string(0));
                    self.error(line.place(1), what, None);
                    return Err(Flow::Abort);
                }
                if keyword == b".else" { self.blocks.otherwise() } else { self.blocks.close() }
            }
        };
        if let Err(what) = outcome {
            let word = usize::from(words.len() > 1);
            self.error(line.place(word), what, None);
            return Err(Flow::Abort);
        }
        if let (Counts::Maybe(reason), b".if" | b".elif", false) =
            (self.blocks.counts(), line.text(0), self.discovering)
        {
            let why = format!("its condition cannot be decided: {reason}");
            self.context.findings.uncertain(line.place(1), why, vec![]);
        }
        Ok(())
    }

    /// Reads `.alert`, `.warning`, `.notice` and `.diag`.
    pub(super) fn directive(&mut self, line: &Line<'_>) -> Result<(), Flow> {
        if self.discovering {
            return Ok(());
        }
        let keyword = line.text(0);
        if !matches!(keyword, b".alert" | b".warning" | b".notice" | b".diag") {
            let what = format!("unknown directive '{}'", line.string(0));
            self.context.findings.refuse(line, 0, what, None);
            return line.doubt.map_or(Err(Flow::EndFile), |_| Ok(()));
        }
        if !line.text(2).is_empty() {
            let what = format!("unexpected argument to '{}'", line.string(0));
            let help = Some("quote the message if it has spaces");
            self.context.findings.refuse(line, 2, what, help);
            return Ok(());
        }
        if keyword == b".alert" {
            let what = format!("'.alert' stops HAProxy: {}", line.string(1));
            let flow = self.context.abort(line, 0, what, None);
            return line.doubt.map_or(Err(flow), |_| Ok(()));
        }
        Ok(())
    }
}
