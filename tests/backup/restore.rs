//! What a restore does, and what it refuses.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::site::Site;
use crate::support::*;

#[test]
fn a_restore_is_shown_first_and_keeps_what_it_replaces() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&[]);
    site.backup(&["restore", "latest"], 1, &["no backup is verified"]);
    site.backup(&["verify", &name], 0, &[]);
    site.backup(&["restore", "latest"], 0, &["is the same as the disk"]);
    let (hosts, page) = (site.file("hosts.map"), site.file("503.http"));
    fs::write(&hosts, "new\n").unwrap();
    fs::set_permissions(&page, fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_dir_all(site.file("lua")).unwrap();
    let words = [
        "hosts.map (content",
        "503.http (mode 0644, now 0600)",
        "missing: ",
        "lua/main.lua",
        "dry run",
    ];
    site.backup(&["restore", "latest"], 1, &words);
    assert_eq!(fs::read_to_string(&hosts).unwrap(), "new\n", "a dry run");
    let words =
        ["what is replaced was kept as", "is restored", "accepts this configuration", "kill -USR2"];
    site.backup(&["restore", "latest", "--execute"], 0, &words);
    assert_eq!(fs::read_to_string(&hosts).unwrap(), "a.example one\nb.example two\n");
    assert_eq!(fs::metadata(&page).unwrap().mode() & 0o777, 0o644);
    assert!(site.file("lua/helper.lua").exists());
    site.backup(&["diff", "latest"], 0, &["is the same"]);
    // And back again.
    let names = site.names();
    site.backup(&["list"], 0, &["what a restore replaced"]);
    site.backup(&["restore", &names[1], "--execute"], 0, &[]);
    assert_eq!(fs::read_to_string(&hosts).unwrap(), "new\n");
    assert_eq!(fs::metadata(&page).unwrap().mode() & 0o777, 0o600);
    site.backup(&["verify", &names[1]], 1, &["not a whole configuration"]);
}

#[test]
fn a_file_that_was_added_would_be_loaded() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&[]);
    let (added, ignored) = (site.file("conf.d/20-new.cfg"), site.file("conf.d/20-new.cfg.bak"));
    fs::write(&added, "frontend g\n    bind 127.0.0.1:8009\n").unwrap();
    fs::write(&ignored, "").unwrap();
    fs::write(site.file("hosts.map"), "new\n").unwrap();
    let words = ["20-new.cfg was added since", "--remove-added", "nothing was restored"];
    let said = site.backup(&["restore", &name, "--execute"], 1, &words);
    assert!(!said.contains(".bak"), "{said}");
    assert_eq!(fs::read_to_string(site.file("hosts.map")).unwrap(), "new\n");
    site.backup(
        &["restore", &name, "--execute", "--remove-added"],
        0,
        &["remove added: ", "is restored"],
    );
    assert!(!added.exists() && ignored.exists());
    let safety = site.names().pop().unwrap();
    let kept = site.store.join(&safety).join("files").join(added.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(kept).unwrap(), "frontend g\n    bind 127.0.0.1:8009\n");
}

#[test]
fn single_files_and_another_root() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&[]);
    for file in ["hosts.map", "blocked.lst"] {
        fs::write(site.file(file), "192.0.2.9\n").unwrap();
    }
    site.backup(&["restore", &name, "none.map"], 2, &["the backup has no none.map"]);
    site.backup(&["restore", &name, "hosts.map", "--execute"], 0, &[]);
    assert_eq!(
        fs::read_to_string(site.file("hosts.map")).unwrap(),
        "a.example one\nb.example two\n"
    );
    assert_eq!(fs::read_to_string(site.file("blocked.lst")).unwrap(), "192.0.2.9\n");
    let elsewhere = bed.directory().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let root = elsewhere.display().to_string();
    site.backup(&["restore", &name, "--root", &root, "--execute"], 0, &["is restored"]);
    let there = |path: &Path| elsewhere.join(path.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(there(&site.file("blocked.lst"))).unwrap(), "192.0.2.1\n");
    assert_eq!(fs::read_link(there(&site.service.path("current"))).unwrap(), Path::new("v1"));
    assert_eq!(fs::read_to_string(site.file("blocked.lst")).unwrap(), "192.0.2.9\n");
}

/// A directory that is a link now may lead anywhere.
#[test]
fn no_parent_is_reached_over_a_link() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&[]);
    let (lua, trap) = (site.file("lua"), bed.directory().join("trap"));
    fs::rename(&lua, &trap).unwrap();
    symlink(&trap, &lua).unwrap();
    fs::write(trap.join("main.lua"), "-- theirs\n").unwrap();
    let words = ["lua/main.lua cannot be restored", "is a link now", "nothing was restored"];
    site.backup(&["restore", &name, "--execute"], 1, &words);
    assert_eq!(fs::read_to_string(trap.join("main.lua")).unwrap(), "-- theirs\n");
}

#[test]
fn neither_setuid_nor_security_attributes_are_restored() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let hosts = site.file("hosts.map");
    fs::set_permissions(&hosts, fs::Permissions::from_mode(0o6755)).unwrap();
    let name = site.create(&[]);
    fs::remove_file(&hosts).unwrap();
    site.backup(&["restore", &name, "--execute"], 0, &[]);
    assert_eq!(fs::metadata(&hosts).unwrap().mode() & 0o7777, 0o755);
}
