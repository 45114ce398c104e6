//! No secret leaves the files of a backup: not in the manifest, the log, nor what is printed.

use std::fs;

use crate::site::{SECRET, Site, below};
use crate::support::*;

#[test]
fn no_secret_is_shown() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let mut said = String::new();
    let mut run = |arguments: &[&str]| {
        for form in ["text", "json"] {
            let loud = ["--output", form, "--log.level", "trace"];
            said.push_str(&site.try_backup(&[arguments, &loud].concat()).1);
        }
    };
    run(&["create"]);
    let name = site.names()[0].clone();
    run(&["verify", &name]);
    run(&["list"]);
    // Each secret changes, so that a comparison has to show its lines.
    let main = site.file("conf.d/10-main.cfg");
    let text = fs::read_to_string(&main).unwrap();
    let changed = text.replace(SECRET, &format!("{SECRET}2")).replace("8001", "8002");
    fs::write(&main, &changed).unwrap();
    fs::write(site.file("certs/site.pem"), format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n"))
        .unwrap();
    run(&["diff", &name]);
    run(&["restore", &name]);
    run(&["restore", &name, "--execute"]);
    assert!(said.contains("8002") && said.contains("insecure-password ****"), "{said}");
    assert!(!said.contains(SECRET), "a secret is shown:\n{said}");
    for path in below(&site.store).iter().filter(|path| path.is_file()) {
        let inside = path.components().any(|part| part.as_os_str() == "files");
        if inside || path.ends_with("environment.json") {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        assert!(!text.contains(SECRET), "{} shows a secret", path.display());
    }
    let variables = fs::read_to_string(site.store.join(&name).join("environment.json")).unwrap();
    assert!(variables.contains(SECRET), "the values stand in a file of their own");
    fs::write(&main, &changed).unwrap();
    let open = site.backup(&["diff", &name, "--show-secrets"], 1, &[SECRET]);
    assert!(!open.contains("BEGIN PRIVATE"), "{open}");
}

/// A key in the place of a file that had none is shown as a hash.
#[test]
fn a_key_on_the_disk_is_shown_as_a_hash() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&[]);
    fs::write(site.file("hosts.map"), format!("-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n"))
        .unwrap();
    let said = site.backup(&["diff", &name, "--show-secrets"], 1, &["hosts.map (content"]);
    assert!(!said.contains(SECRET), "{said}");
}
