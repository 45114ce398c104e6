//! Reads HAProxy configuration as HAProxy does, and finds which sockets it would open.
//!
//! The reader is pure: file contents, environment and arguments come in as values ([`SourceFile`],
//! [`Launch`]), and a [`Declared`] goes out. It opens no file, resolves no name and asks the kernel
//! nothing, so a line that depends on those is [`Uncertain`], with the reason, and never guessed.
//!
//! | step | file |
//! |---|---|
//! | lines to words | `lexer.rs`, `expansion.rs`, `variables.rs` |
//! | `.if` … `.endif` | `blocks.rs`, `conditions.rs`, `predicates.rs`, `truth.rs` |
//! | files to lines, lines to sections | `reader.rs`, `walker.rs`, `directives.rs`, `context.rs`, `statement.rs`, `globals.rs`, `proxies.rs`, `peers.rs`, `sources.rs` |
//! | `bind` words to listeners | `bind.rs`, `addresses.rs`, `ports.rs` |
//!
//! The authority is HAProxy's configuration manual: sections 2 (format, variables, conditions), 3
//! (global), 4 and 5 (bind), and 11 (address formats). Where the manual is silent, the running HAProxy
//! decides: `tests/reader.rs` compares this reader with several versions.

mod addresses;
mod bind;
mod blocks;
mod conditions;
mod context;
mod directives;
mod expansion;
mod findings;
mod globals;
mod launch;
mod lexer;
mod peers;
mod ports;
mod predicates;
mod proxies;
mod reader;
mod sources;
mod statement;
mod truth;
mod variables;
mod version;
mod walker;

pub use crate::model::declared::{
    ConfigError, Declared, Family, Globals, HostName, HostQuery, Inherited, Listener, Place, Ports,
    Possible, Uncertain, UnixListener,
};
pub use launch::{Launch, SourceFile, is_configuration};
pub use reader::{read, statements};
pub use statement::Statement;
pub use version::Version;
