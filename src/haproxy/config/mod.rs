//! Reads HAProxy configuration as HAProxy does and tells which sockets it would open.
//!
//! Pure: file contents, environment and arguments come in as values ([`SourceFile`], [`Launch`]),
//! a [`Declared`] goes out. Nothing here opens a file, resolves a name or asks the kernel, so
//! what depends on those is [`Uncertain`], with the reason, and never guessed.
//!
//! | step | file |
//! |---|---|
//! | lines to words | `lexer.rs`, `expansion.rs`, `variables.rs` |
//! | `.if` … `.endif` | `blocks.rs`, `conditions.rs`, `predicates.rs` |
//! | files to lines, lines to sections | `reader.rs`, `walker.rs`, `globals.rs`, `proxies.rs`, `peers.rs` |
//! | `bind` words to listeners | `bind.rs`, `addresses.rs` |
//!
//! Authority: HAProxy's configuration manual, sections 2 (format, variables, conditions), 3
//! (global), 4 and 5 (bind), and 11 (address formats); where it is silent, the running HAProxy
//! (`tests/reader.rs` holds this reader against several versions).

mod addresses;
mod bind;
mod blocks;
mod conditions;
mod context;
mod expansion;
mod findings;
mod globals;
mod launch;
mod lexer;
mod peers;
mod predicates;
mod proxies;
mod reader;
mod truth;
mod variables;
mod version;
mod walker;

pub use crate::model::declared::{
    ConfigError, Declared, Globals, Inherited, Listener, Place, Ports, Possible, Program,
    StatsSocket, Uncertain, UnixListener,
};
pub use launch::{Launch, SourceFile, SslLibrary};
pub use reader::read;
pub use version::Version;
