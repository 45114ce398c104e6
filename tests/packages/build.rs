//! Builds the packages once for all tests, as the page on installation says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::manual::Manual;
use super::support::{installed, text};

/// The version that the upgrade begins with; it sorts before the one that is built.
const PREVIOUS: &str = "0.0.9";

/// The files of one version.
pub struct Packages {
    pub directory: PathBuf,
    pub previous: PathBuf,
}

impl Packages {
    /// The file that begins and ends so.
    #[track_caller]
    pub fn file(&self, ending: &str) -> PathBuf {
        only(&self.directory, ending)
    }

    /// The Debian package of the version before.
    pub fn previous_deb(&self) -> PathBuf {
        only(&self.previous, ".deb")
    }
}

/// Builds them at the first call.
pub fn packages() -> &'static Packages {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = fs::remove_dir_all(&place);
        let packages = Packages { directory: place.join("new"), previous: place.join("old") };
        for command in Manual::read().commands("Build") {
            run(command, &place, &packages.directory, None);
        }
        run("deploy/package", &place, &packages.previous, Some(PREVIOUS));
        packages
    })
}

fn run(line: &str, place: &Path, output: &Path, version: Option<&str>) {
    let tools =
        std::env::var_os("PACKAGE_TOOLS").map_or_else(|| installed("package-tools"), PathBuf::from);
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PACKAGE_BINARY", env!("CARGO_BIN_EXE_haproxy-host-exporter"))
        .env("PACKAGE_TOOLS", tools)
        .env("PACKAGE_OUTPUT", output)
        .env("CARGO_TARGET_DIR", place.join("target"));
    if let Some(version) = version {
        command.env("PACKAGE_VERSION", version);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{line}: {}{}", text(&done.stdout), text(&done.stderr));
}

#[track_caller]
fn only(directory: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> =
        files.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    assert_eq!(found.len(), 1, "{ending} in {}: {found:?}", directory.display());
    found[0].clone()
}
