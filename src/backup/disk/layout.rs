//! What lies in the directory of backups, and under which names.
//!
//! | name | what |
//! |---|---|
//! | `NAME/manifest.json` | the manifest, and its hash in `manifest.json.sha256` |
//! | `NAME/environment.json` | the values of the variables that the configuration uses |
//! | `NAME/files/…` | the files, under their paths |
//! | `NAME/verified.json` | when and against which programs it was verified |
//! | `NAME.tar.zst`, `NAME.verified.json` | the same as an archive |
//! | `.NAME.partial-PID` | a backup that is being written, or that was never finished |
//! | `.lock` | locked while a backup is written, verified or restored |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tree;

/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// Its hash, in the form of sha256sum(1).
pub const MANIFEST_HASH: &str = "manifest.json.sha256";
/// The values of variables.
pub const VARIABLES: &str = "environment.json";
/// The files.
pub const FILES: &str = "files";
/// When it was verified.
pub const VERIFIED: &str = "verified.json";
/// How the name of an archive ends.
pub const ARCHIVE: &str = ".tar.zst";
/// The file that is locked.
pub const LOCK: &str = ".lock";
/// What stands in the name of everything unfinished.
pub const PARTIAL: &str = ".partial-";

/// The largest manifest that is read: 200,000 entries take some 60 MB.
pub const MOST_MANIFEST: u64 = 256 << 20;

/// The file of variables. It carries its own hash, so that the manifest shows nothing of the values.
#[derive(Debug, Serialize, Deserialize)]
pub struct Variables {
    /// The version of this form.
    pub version: u32,
    /// The hash of the variables as JSON.
    pub sha256: String,
    /// The values by name.
    pub variables: BTreeMap<String, String>,
}

/// The text of the file of variables.
pub fn variables_text(variables: &BTreeMap<String, String>) -> serde_json::Result<Vec<u8>> {
    let sha256 = tree::sha256(&serde_json::to_vec(variables)?);
    serde_json::to_vec_pretty(&Variables { version: 1, sha256, variables: variables.clone() })
}

/// The line that stands beside a manifest.
#[must_use]
pub fn hash_line(text: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", tree::sha256(text))
}
