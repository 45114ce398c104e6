//! What other users can do to a backup or a restore of root's: nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use crate::site::{SECRET, Site, below};
use crate::support::*;

const USER: u32 = 65534;

fn as_user(bed: &Bed, program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    let mut command = bed.command(tool("setpriv"));
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

/// What another user's HAProxy names is not followed by root.
#[test]
fn another_users_service_is_left_out() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_0);
    let file = bed.write(
        "user.cfg",
        "defaults\n    timeout client 1h\nfrontend f\n    bind 127.0.0.1:8009\n",
    );
    let mut command = as_user(&bed, Version::V3_0.binary());
    command.args(["-db", "-f"]).arg(&file);
    let serving = bed.start(command, "user.log");
    await_true("the user's HAProxy", || bed.listens(serving.pid()));
    site.backup(&["create"], 0, &["user@65534 is left out: another user started it"]);
    assert_eq!(site.names().len(), 1);
    site.backup(&["create", "--haproxy", "user@65534"], 1, &["is left out"]);
    assert_eq!(site.names().len(), 1);
}

/// A file that another user's link chooses is not read for root's HAProxy.
#[test]
fn a_link_of_another_user_lends_nothing() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_0);
    let secret = bed.write("shadow", SECRET);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let hosts = site.file("hosts.map");
    fs::remove_file(&hosts).unwrap();
    symlink(&secret, &hosts).unwrap();
    std::os::unix::fs::lchown(&hosts, Some(USER), Some(USER)).unwrap();
    site.backup(&["create"], 1, &["hosts.map: the user who started this HAProxy may not read it"]);
    for path in below(&site.store).iter().filter(|path| path.is_file()) {
        assert!(
            !fs::read_to_string(path).unwrap_or_default().contains(SECRET),
            "{}",
            path.display()
        );
    }
}

/// Backups hold secrets, so that their directory must be the caller's alone.
#[test]
fn a_directory_that_another_user_can_change_takes_no_backup() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_0);
    fs::create_dir(&site.store).unwrap();
    for (owner, mode) in [(USER, 0o700), (0, 0o777)] {
        chown(&site.store, Some(owner), None).unwrap();
        fs::set_permissions(&site.store, fs::Permissions::from_mode(mode)).unwrap();
        site.backup(&["create"], 1, &["another user can change"]);
        assert_eq!(fs::read_dir(&site.store).unwrap().count(), 0);
    }
}

/// A run without rights says what it could not read, and writes nothing.
#[test]
fn a_run_without_rights_is_refused() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_0);
    let store = bed.directory().join("theirs");
    fs::create_dir(&store).unwrap();
    chown(&store, Some(USER), Some(USER)).unwrap();
    fs::set_permissions(site.file("certs/site.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let binary = bed.directory().join("exporter");
    copy_program(Exporter::binary(), &binary);
    let mut command = as_user(&bed, &binary);
    let output = command.args(["backup", "create", "--to"]).arg(&store).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("needs root"), "{said}");
    let left = |path: &Path| fs::read_dir(path).unwrap().flatten().count();
    assert!(left(&store) <= 1, "more than the lock was written");
}
