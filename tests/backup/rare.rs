//! Files that a configuration names in rarer ways, and what is restored of them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::site::{Site, paths};
use crate::support::*;

for_each_version! {
    what_is_named_in_rare_ways_is_kept => rare;
}

/// After it has read the file of a filter, HAProxy is back where it was started.
const LAST: &str = "    http-request deny if { src -f launch.lst } { path /never }\n";

/// A running daemon of which every file is named in a rare way, relative names below `default-path` included.
fn rarely<'b>(bed: &'b Bed, version: Version, global: &str, last: &str) -> Site<'b> {
    let mut service = Service::new(bed, version, Manner::Daemon);
    let place = service.path("");
    fs::create_dir(place.join("modules")).unwrap();
    fs::create_dir(place.join("jail")).unwrap();
    let here = place.display().to_string();
    let write = |name: &str, text: &str| {
        fs::write(place.join(name), text.replace("HERE/", &here)).unwrap();
    };
    for name in ["my hosts.map", "geo.map", "spoe.map"] {
        write(name, "a.example one\n");
    }
    for name in ["allowed.lst", "spoe.lst"] {
        write(name, "192.0.2.1\n");
    }
    fs::copy(certificate(bed), place.join("site.pem")).unwrap();
    fs::copy(bed.directory().join("crt.pem"), place.join("bundle.pem.rsa")).unwrap();
    fs::copy(bed.directory().join("key.pem"), place.join("bundle.pem.rsa.key")).unwrap();
    fs::copy(bed.directory().join("crt.pem"), place.join("ca.pem")).unwrap();
    write("list.txt", "site.pem\n");
    write("main.lua", "local geo = Map.new('HERE/geo.map', Map._str)\nrequire [[long]]\n");
    write("long.lua", "core.log(core.info, 'long')\n");
    write("modules/found.lua", "core.log(core.info, 'found')\n");
    write(
        "spoe.cfg",
        "[eng]\nspoe-agent agent\n    messages told\n    use-backend agents\n    timeout hello 1s\n    timeout idle 1m\n    \
         timeout processing 1s\n\
         spoe-message told\n    args v=src,map(HERE/spoe.map,x)\n    \
         event on-client-session if { src -f HERE/spoe.lst }\n",
    );
    write(
        "h.cfg",
        &format!(
            "global\n    default-path config\n    stats socket HERE/admin.sock mode 600 level admin\n    \
             lua-load main.lua\n    httpclient.ssl.ca-file HERE/ca.pem\n{global}\
             defaults\n    mode http\n    timeout client 1h\n    timeout connect 1s\n    timeout server 1h\n\
             frontend f\n    bind 127.0.0.1:8001\n    bind 127.0.0.1:8443 ssl crt-list list.txt\n    \
             bind 127.0.0.1:8444 ssl crt bundle.pem\n    \
             http-request deny if !{{ src -f allowed.lst }} {{ path /never }}\n    \
             http-request set-header X \"%[req.hdr(host),map('HERE/my hosts.map',none)]\"\n    \
             filter spoe engine eng config spoe.cfg\n{last}\
             backend agents\n    mode tcp\n    server agent 127.0.0.1:9\n"
        ),
    );
    fs::write(bed.directory().join("launch.lst"), "192.0.2.1\n").unwrap();
    let pidfile = service.pidfile().display().to_string();
    service.arguments = ["-p", &pidfile, "-f", &format!("{here}h.cfg")].map(str::to_owned).to_vec();
    service.wrapper =
        ["env", &format!("LUA_PATH={here}modules/?.lua;;")].map(str::to_owned).to_vec();
    service.start();
    Site { bed, store: bed.directory().join("store"), service }
}

fn rare(version: Version) {
    let bed = Bed::new();
    let site = rarely(&bed, version, "", LAST);
    let name = site.create(&["--include-keys"]);
    let kept = paths(&site.manifest(&name)["entries"]);
    for file in [
        "list.txt",
        "site.pem",
        "bundle.pem.rsa",
        "bundle.pem.rsa.key",
        "ca.pem",
        "allowed.lst",
        "my hosts.map",
        "spoe.cfg",
        "spoe.map",
        "spoe.lst",
        "main.lua",
        "long.lua",
        "geo.map",
    ] {
        let path = site.service.path(file).display().to_string();
        assert!(kept.contains(&path), "{path} is not in {kept:#?}");
    }
    let after = bed.directory().join("launch.lst").display().to_string();
    assert!(kept.contains(&after), "{after} is not in {kept:#?}");
    site.backup(&["verify", &name], 0, &["verifies: it is whole"]);
}

/// The templates of modules come from the environment, too.
#[test]
fn a_module_that_lua_path_leads_to_is_kept() {
    let bed = Bed::new();
    let site = rarely(&bed, Version::V3_2, "", LAST);
    fs::write(site.service.path("main.lua"), "require('found')\nio.open('/etc/hostname')\n")
        .unwrap();
    site.service.reload();
    let manifest = site.manifest(&site.create(&[]));
    let kept = paths(&manifest["entries"]);
    let module = site.service.path("modules/found.lua").display().to_string();
    assert!(kept.contains(&module), "{module} is not in {kept:#?}");
    // What a script only reads is named, and never restored.
    let left = paths(&manifest["left_out"]);
    assert!(left.contains(&"/etc/hostname".to_owned()), "{left:?}");
}

/// HAProxy has changed its root since it read its files, which are the host's.
#[test]
fn a_daemon_in_its_jail_is_restored_where_its_files_are() {
    let bed = Bed::new();
    let site = rarely(&bed, Version::V3_2, "    chroot HERE/jail\n", "");
    let name = site.create(&["--include-keys"]);
    let list = site.service.path("allowed.lst");
    fs::write(&list, "192.0.2.9\n").unwrap();
    site.backup(&["restore", &name, "--execute"], 0, &["is restored"]);
    assert_eq!(fs::read_to_string(&list).unwrap(), "192.0.2.1\n");
    assert_eq!(fs::read_dir(site.service.path("jail")).unwrap().count(), 0);
}

/// The other name has got other rights since: they are not the ones of the file that is restored.
#[test]
fn a_hard_link_is_restored_with_its_own_rights() {
    let bed = Bed::new();
    let site = rarely(&bed, Version::V3_2, "", LAST);
    let (one, other) = (site.service.path("allowed.lst"), site.service.path("spoe.lst"));
    fs::remove_file(&other).unwrap();
    fs::hard_link(&one, &other).unwrap();
    let name = site.create(&[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let before = mode(&other);
    fs::remove_file(&other).unwrap();
    fs::set_permissions(&one, fs::Permissions::from_mode(0o600)).unwrap();
    let file = other.display().to_string();
    site.backup(&["restore", &name, &file, "--execute"], 0, &["is restored"]);
    assert_eq!((mode(&other), mode(&one)), (before, 0o600));
    assert_eq!(fs::read_to_string(&other).unwrap(), "192.0.2.1\n");
}

/// HAProxy would load it beside the certificate.
#[test]
fn a_companion_that_was_added_would_be_loaded() {
    let bed = Bed::new();
    let site = rarely(&bed, Version::V3_2, "", LAST);
    let name = site.create(&["--include-keys"]);
    site.backup(&["diff", &name], 0, &["is the same as the disk"]);
    fs::write(site.service.path("site.pem.sctl"), "no list\n").unwrap();
    site.backup(&["diff", &name], 1, &["site.pem.sctl"]);
    site.backup(&["restore", &name, "--execute"], 1, &["site.pem.sctl was added since"]);
    // A link to nowhere is no file.
    fs::remove_file(site.service.path("site.pem.sctl")).unwrap();
    symlink("nowhere", site.service.path("site.pem.ocsp")).unwrap();
    site.backup(&["diff", &name], 0, &["is the same as the disk"]);
}

/// Who names one file means no other.
#[test]
fn a_named_file_is_restored_whatever_was_added_elsewhere() {
    let bed = Bed::new();
    let site = Site::new(&bed, Version::V3_2);
    let name = site.create(&[]);
    let added = site.file("conf.d/20-new.cfg");
    fs::write(&added, "frontend g\n    bind 127.0.0.1:8009\n").unwrap();
    for more in [&[][..], &["--remove-added"]] {
        fs::write(site.file("hosts.map"), "new\n").unwrap();
        let restore = ["restore", &name, "hosts.map", "--execute"];
        site.backup(&[&restore, more].concat(), 0, &["is restored"]);
        assert!(added.exists());
    }
    let conf_d = site.file("conf.d").display().to_string();
    site.backup(&["restore", &name, &conf_d, "--execute", "--remove-added"], 0, &["remove added"]);
    assert!(!added.exists());
}
