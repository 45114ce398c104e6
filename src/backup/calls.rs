//! Converters and actions that take the name of a file as an argument.

use std::sync::LazyLock;

use regex::Regex;

/// A converter or an action, and its first arguments.
pub(super) struct Call {
    /// Its name.
    pub(super) name: String,
    /// Its first argument, without quotes.
    pub(super) first: String,
    /// Its second argument, without quotes.
    pub(super) second: Option<String>,
}

/// Names in the arguments of converters and of the actions on maps. An argument may be quoted in part
/// (`make_arg_list` in `src/arg.c`).
static IN_CALLS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let argument = r#"((?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^(),'"\\])+)"#;
    let calls =
        "map(?:_[a-z_]+)?|(?:set|del)-map|(?:add|del)-acl|jwt_verify(?:_cert)?|jwt_decrypt_cert";
    Regex::new(&format!(r"\b({calls})\({argument}(?:,{argument})?")).ok()
});

/// Finds the calls in a word of a configuration, wherever they stand in it.
pub(super) fn of(word: &str) -> Vec<Call> {
    let found = IN_CALLS.iter().flat_map(|pattern| pattern.captures_iter(word));
    let calls = found.filter_map(|found| {
        let argument = |group| found.get(group).map(|text| unquoted(text.as_str().trim()));
        Some(Call { name: argument(1)?, first: argument(2)?, second: argument(3) })
    });
    calls.collect()
}

/// An argument without its quotes and escapes.
fn unquoted(argument: &str) -> String {
    let (mut text, mut quote, mut letters) = (String::new(), None, argument.chars());
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => text.extend(letters.next()),
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_of_an_argument_are_removed() {
        for (argument, expected) in [
            ("/a/b", "/a/b"),
            ("'/a b'", "/a b"),
            ("/a/\"b c\".map", "/a/b c.map"),
            (r"/a\,b", "/a,b"),
        ] {
            assert_eq!(unquoted(argument), expected);
        }
    }
}
