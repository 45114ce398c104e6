//! The packages under test: those that `PACKAGES` names, or new ones of a program that is built already; and a version
//! before them, which an upgrade begins with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::machine;
use super::manual::Manual;
use super::support::{installed, text, tool};

/// The version that the upgrade begins with; it sorts before the one that is built.
const PREVIOUS: &str = "0.0.9";

/// The last line of a settings file of the version before: the present one has another text.
pub const FORMER_SETTING: &str = "# A comment that only the version before has.";

/// The watchdog's limit in the unit of the version before.
pub const FORMER_WATCHDOG: &str = "WatchdogSec=45s";

/// The time of all files that a test packs, so that the same program gives the same packages.
const EPOCH: &str = "1790000000";

/// What a folder has to have for `deploy/package`.
const SOURCES: [&str; 13] = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "src",
    "benches",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "alerts",
    "dashboards",
    "deploy",
    "docs",
];

/// The files of the version under test.
pub struct Packages {
    pub directory: PathBuf,
    /// Whether they were built before the test, as they are released.
    pub released: bool,
    /// The program that is packed for them, and for the version before.
    program: PathBuf,
}

impl Packages {
    /// The file for this processor that ends so.
    #[track_caller]
    pub fn file(&self, ending: &str) -> PathBuf {
        only(&self.directory, ending)
    }

    /// Which program they hold, for figures.
    pub fn program(&self) -> &'static str {
        let named = std::env::var_os("SYSTEMD_BINARY").is_some();
        match (self.released, named, cfg!(debug_assertions)) {
            (true, ..) => "the program of PACKAGES",
            (false, true, _) => "the program of SYSTEMD_BINARY",
            (false, false, true) => "cargo's debug program",
            (false, false, false) => "cargo's release program",
        }
    }
}

/// Finds them, or builds them at the first call.
pub fn packages() -> &'static Packages {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        if let Some(directory) = std::env::var_os("PACKAGES") {
            let directory = root.join(directory);
            let program = program_of_deb(&only(&directory, ".deb"), &place("unpacked"));
            return Packages { directory, released: true, program };
        }
        let directory = place("new").join("packages");
        let program = machine::binary();
        let build = Manual::read();
        let build = build.commands("Build").iter();
        for command in build.filter(|command| command.starts_with("deploy/package")) {
            pack(command, root, &program, &directory, None);
        }
        Packages { directory, released: false, program }
    })
}

/// The file that ends so of the version before, whose unit and settings are not the present ones.
#[track_caller]
pub fn previous(ending: &str) -> PathBuf {
    static PREVIOUS_PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    let directory = PREVIOUS_PACKAGES.get_or_init(|| {
        let place = place("old");
        let (sources, output) = (place.join("sources"), place.join("packages"));
        copy_sources(&sources);
        append(&sources, "haproxy-host-exporter.default");
        append(&sources, "haproxy-host-reap.default");
        let unit = sources.join("deploy/systemd").join(machine::EXPORTER);
        let present = fs::read_to_string(&unit).unwrap();
        let former = present.replace("WatchdogSec=60s", FORMER_WATCHDOG);
        assert_ne!(present, former, "the unit of the version before is the same");
        fs::write(&unit, former).unwrap();
        pack("deploy/package", &sources, &packages().program, &output, Some(PREVIOUS));
        output
    });
    only(directory, ending)
}

/// A new folder of the tests.
fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(name);
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    place
}

/// Gives the former text to a settings file.
fn append(sources: &Path, settings: &str) {
    let file = sources.join("deploy/systemd").join(settings);
    let present = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{present}{FORMER_SETTING}\n")).unwrap();
}

/// Copies what is packed to a new folder.
pub fn copy_sources(to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut copy = Command::new(tool("cp"));
    copy.args(["-r", "--"]).args(SOURCES).arg(to).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(copy.status().unwrap().success(), "{copy:?}");
}

/// The program of a Debian package, unpacked in a folder.
pub fn program_of_deb(deb: &Path, folder: &Path) -> PathBuf {
    let status = Command::new(tool("dpkg-deb")).arg("--extract").args([deb, folder]).status();
    assert!(status.unwrap().success(), "{}", deb.display());
    folder.join("usr/bin/haproxy-host-exporter")
}

/// Packs a program by a line of shell in a folder with the sources.
pub fn pack(line: &str, sources: &Path, program: &Path, output: &Path, version: Option<&str>) {
    let tools =
        std::env::var_os("PACKAGE_TOOLS").map_or_else(|| installed("package-tools"), PathBuf::from);
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(sources)
        .env("PACKAGE_BINARY", program)
        .env("PACKAGE_TOOLS", tools)
        .env("PACKAGE_OUTPUT", output)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("CARGO_TARGET_DIR", output.with_extension("target"));
    if let Some(version) = version {
        command.env("PACKAGE_VERSION", version);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{line}: {}{}", text(&done.stdout), text(&done.stderr));
}

/// The files of one kind in a folder, for all processors.
pub fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|why| panic!("{}: {why}", directory.display()));
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

#[track_caller]
fn only(directory: &Path, ending: &str) -> PathBuf {
    let mut found = files(directory, ending);
    if found.len() > 1 {
        // All processors' are there.
        let names =
            if cfg!(target_arch = "aarch64") { ["arm64", "aarch64"] } else { ["amd64", "x86_64"] };
        found.retain(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            names.iter().any(|processor| name.contains(processor))
        });
    }
    assert_eq!(found.len(), 1, "{ending} in {}: {found:?}", directory.display());
    found.remove(0)
}
