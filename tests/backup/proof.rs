//! What a backup has, and that its copy is what is proved.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::site::{Site, below, paths};
use crate::support::*;

fn keeps_everything_that_is_read(version: Version) {
    let bed = Bed::new();
    let site = Site::new(&bed, version);
    let name = site.create(&[]);
    let manifest = site.manifest(&name);
    let kept = paths(&manifest["entries"]);
    let place = site.service.path("").display().to_string();
    let place = place.trim_end_matches('/');
    for file in [
        "current",
        "v1",
        "v1/conf.d",
        "v1/conf.d/10-main.cfg",
        "v1/hosts.map",
        "v1/blocked.lst",
        "v1/503.http",
        "v1/lua/main.lua",
        "v1/lua/helper.lua",
        "v1/ca.pem",
        "v1/certs",
    ] {
        assert!(kept.contains(&format!("{place}/{file}")), "{file} is not in {kept:#?}");
    }
    // The combined PEM is named with its hash, and not there.
    let left = manifest["left_out"].as_array().unwrap();
    let pem = left.iter().find(|one| one["path"] == format!("{place}/v1/certs/site.pem")).unwrap();
    assert_eq!(pem["sha256"].as_str().unwrap().len(), 64);
    assert!(pem["why"].as_str().unwrap().contains("--include-keys"), "{pem}");
    for path in below(&site.store.join(&name)) {
        let found = fs::symlink_metadata(&path).unwrap();
        let expected = if found.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(found.permissions().mode() & 0o7777, expected, "{}", path.display());
        assert!(!path.ends_with("site.pem"), "a key was kept");
    }
    assert_eq!(manifest["command"]["variables"], serde_json::json!(["SITE_VALUE"]));
    assert!(
        manifest["program"]["version"].as_str().unwrap().starts_with(version.name()),
        "{manifest:#}"
    );
    assert!(
        manifest["program"]["build"].as_str().unwrap().contains("Feature list"),
        "{manifest:#}"
    );
    site.backup(&["list"], 0, &[&name, "not verified"]);
    let said = site.backup(
        &["verify", &name],
        0,
        &["verifies: it is whole", version.name(), "taken from the disk"],
    );
    assert!(said.contains("site.pem"), "{said}");
    site.backup(&["list"], 0, &["verified", "with HAProxy"]);
    site.backup(&["diff", "latest"], 0, &["is the same as the disk"]);
}

for_each_version! {
    a_backup_has_all_that_is_read_and_verifies => keeps_everything_that_is_read;
}

/// What is on the disk has no part in the proof, neither for nor against.
#[test]
fn the_proof_is_of_the_copy() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&["--include-keys"]);
    // The disk is broken, the copy is not.
    fs::write(site.file("conf.d/10-main.cfg"), "nonsense\n").unwrap();
    fs::remove_file(site.file("hosts.map")).unwrap();
    fs::remove_dir_all(site.file("lua")).unwrap();
    site.backup(&["verify", &name], 0, &["verifies"]);
    // The copy is broken, the disk is not: nothing of the disk stands in for it.
    let path = site.store.join(&name).join("manifest.json");
    let mut manifest = site.manifest(&name);
    let hosts = site.file("hosts.map");
    fs::write(&hosts, "a.example one\nb.example two\n").unwrap();
    let entries = manifest["entries"].as_array_mut().unwrap();
    entries.retain(|entry| entry["path"] != hosts.display().to_string());
    let text = serde_json::to_vec_pretty(&manifest).unwrap();
    fs::write(&path, text).unwrap();
    site.backup(&["verify", &name], 1, &["manifest was changed"]);
    let hash =
        bed.shell(&format!("cd {} && sha256sum manifest.json", path.parent().unwrap().display()));
    fs::write(path.with_file_name("manifest.json.sha256"), hash).unwrap();
    site.backup(&["verify", &name], 1, &["was added to its files"]);
    fs::remove_file(site.store.join(&name).join("files").join(hosts.strip_prefix("/").unwrap()))
        .unwrap();
    site.backup(&["verify", &name], 1, &["hosts.map", "does not verify"]);
    site.backup(&["list"], 0, &["not verified"]);
}

#[test]
fn a_copy_that_was_changed_does_not_verify() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&[]);
    site.backup(&["verify", &name], 0, &[]);
    let copy = site
        .store
        .join(&name)
        .join("files")
        .join(site.file("hosts.map").strip_prefix("/").unwrap());
    let good = fs::read(&copy).unwrap();
    fs::write(&copy, "a.example three\n").unwrap();
    site.backup(&["verify", &name], 1, &["the copy of", "hosts.map was changed"]);
    site.backup(&["diff", "latest"], 1, &["no backup is verified"]);
    fs::write(&copy, good).unwrap();
    site.backup(&["verify", &name], 0, &[]);
    let variables = site.store.join(&name).join("environment.json");
    let text = fs::read_to_string(&variables).unwrap();
    fs::write(&variables, text.replace("S3CRET", "OTHER")).unwrap();
    site.backup(&["verify", &name], 1, &["environment.json was changed"]);
}

/// A key that was left out counts only as it was.
#[test]
fn a_key_that_was_renewed_does_not_verify() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_0);
    let name = site.create(&[]);
    let (pem, moved) = (site.file("certs/site.pem"), bed.directory().join("moved.pem"));
    fs::rename(&pem, &moved).unwrap();
    site.backup(
        &["verify", &name],
        1,
        &["left out of the backup, and not on the disk as it was", "site.pem"],
    );
    site.backup(&["diff", &name], 1, &["site.pem (left out of the backup; sha256", "now missing"]);
    fs::copy(certificate(&bed), &pem).unwrap();
    site.backup(&["verify", &name], 1, &["site.pem"]);
    fs::rename(&moved, &pem).unwrap();
    site.backup(&["verify", &name], 0, &["verifies"]);
}

#[test]
fn a_version_that_refuses_the_copy_does_not_verify_it() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V2_6);
    let main = site.file("conf.d/10-main.cfg");
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, format!("{text}    bind-process 1\n")).unwrap();
    let name = site.create(&[]);
    site.backup(&["verify", &name], 0, &["verifies"]);
    let newer = Version::V3_2.binary().display().to_string();
    let words = ["upgrade_removed", "bind-process", "does not verify: HAProxy 3.2"];
    site.backup(&["verify", &name, "--binary", &newer], 1, &words);
}

#[test]
fn an_archive_is_a_backup() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&["--archive", "--include-keys"]);
    let file = site.store.join(format!("{name}.tar.zst"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    site.backup(&["verify", "latest"], 0, &["verifies"]);
    site.backup(&["list"], 0, &["archive, verified"]);
    site.backup(&["diff", "latest"], 0, &["is the same"]);
    fs::write(site.file("hosts.map"), "changed\n").unwrap();
    site.backup(&["restore", "latest", "--execute"], 0, &["is restored"]);
    assert_eq!(
        fs::read_to_string(site.file("hosts.map")).unwrap(),
        "a.example one\nb.example two\n"
    );
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&file, bytes).unwrap();
    site.backup(&["verify", &name], 1, &[]);
    let left: Vec<_> =
        fs::read_dir(&site.store).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn keep_removes_the_oldest_and_never_the_last_that_verifies() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let first = site.create(&[]);
    site.backup(&["verify", &first], 0, &[]);
    let second = site.create(&[]);
    let third = site.create(&[]);
    assert_eq!(site.names(), [first.clone(), second.clone(), third.clone()]);
    site.backup(&["create", "--keep", "2"], 0, &["removed"]);
    let names = site.names();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names.contains(&first) && names.contains(&third) && !names.contains(&second),
        "{names:?}"
    );
}

#[test]
fn one_run_at_a_time() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    site.create(&[]);
    let lock = site.store.join(".lock");
    assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o7777, 0o600);
    let mut held = bed.command("flock");
    held.arg(&lock).args(["sh", "-c", "echo held; exec sleep 1000"]);
    let held = bed.start(held, "held.log");
    await_true("the lock", || held.log().contains("held"));
    site.backup(&["create"], 1, &["another backup, verification or restore works"]);
    site.backup(&["list"], 0, &[]);
}

/// The files of another place, a full disk and a disk that takes nothing.
#[test]
fn a_backup_is_whole_or_not_there() {
    let bed = Bed::new();
    let mut site = Site::new(&bed, Version::V3_2);
    let first = site.create(&[]);
    let mount = bed.directory().join("small");
    fs::create_dir(&mount).unwrap();
    bed.shell(&format!("mount -t tmpfs -o size=160k,mode=700 small {0}", mount.display()));
    let own = std::mem::replace(&mut site.store, mount.join("store"));
    // Another file system is as good.
    let elsewhere = site.create(&[]);
    site.backup(&["verify", &elsewhere], 0, &[]);
    fs::write(site.file("hosts.map"), "a.example one\n".repeat(20_000)).unwrap();
    site.backup(&["create"], 1, &["bytes free, the backup needs"]);
    assert_eq!(site.names(), std::slice::from_ref(&elsewhere));
    bed.shell(&format!("mount -o remount,ro {}", mount.display()));
    site.backup(&["create"], 1, &["Read-only file system"]);
    site.backup(&["list"], 0, &[&elsewhere]);
    site.store = own;
    site.backup(&["verify", &first], 0, &[]);
}

/// The daily timer verifies the newest backup of each service.
#[test]
fn latest_is_that_of_each_service() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let mut other = Service::named(&bed, Version::V3_0, Manner::Daemon, "other");
    let pidfile = other.path("other.pid").display().to_string();
    let file = other.path("haproxy.cfg").display().to_string();
    other.arguments = ["-p", &pidfile, "-f", &file].map(str::to_owned).to_vec();
    other.configure("listen l\n    bind 127.0.0.1:8011\n");
    assert!(other.launch(&[]).status.success());
    site.backup(&["create"], 0, &["haproxy-", "other-"]);
    assert_eq!(site.names().len(), 2);
    let said = site.backup(&["verify", "latest"], 0, &[]);
    assert_eq!(said.matches("verifies: it is whole").count(), 2, "{said}");
    site.backup(
        &["diff", "latest"],
        2,
        &["latest could be a backup of haproxy, other; give --haproxy"],
    );
    site.backup(&["diff", "latest", "--haproxy", "other"], 0, &["the same"]);
}
