//! A HAProxy that reads a file of every sort, and `backup` run beside it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::*;

/// What stands in every secret of the site.
pub const SECRET: &str = "S3CRETMARKER";

/// A bed with a HAProxy, and a directory of backups.
pub struct Site<'b> {
    pub bed: &'b Bed,
    pub service: Service<'b>,
    pub store: PathBuf,
}

impl<'b> Site<'b> {
    /// A running HAProxy whose configuration names files of every sort, over a link.
    pub fn new(bed: &'b Bed, version: Version) -> Site<'b> {
        let mut service = Service::new(bed, version, Manner::Master);
        let place = service.path("");
        for directory in ["v1", "v1/certs", "v1/conf.d", "v1/lua"] {
            fs::create_dir(place.join(directory)).unwrap();
        }
        symlink("v1", place.join("current")).unwrap();
        let site = certificate(bed);
        fs::copy(&site, place.join("v1/certs/site.pem")).unwrap();
        fs::copy(bed.directory().join("crt.pem"), place.join("v1/ca.pem")).unwrap();
        let here = place.join("current").display().to_string();
        let write = |name: &str, text: &str| {
            fs::write(place.join(name), text.replace("HERE", &here)).unwrap();
        };
        write("v1/hosts.map", "a.example one\nb.example two\n");
        write("v1/blocked.lst", "192.0.2.1\n");
        write("v1/503.http", "HTTP/1.0 503 No\r\nContent-Length: 0\r\n\r\n");
        write("v1/lua/main.lua", "require('helper')\n");
        write("v1/lua/helper.lua", "core.log(core.info, 'helper')\n");
        write(
            "v1/conf.d/10-main.cfg",
            &format!(
                "global\n    stats socket {}/admin.sock mode 600 level admin\n    lua-prepend-path HERE/lua/?.lua\n    \
                 lua-load HERE/lua/main.lua\n    setenv TOKEN {SECRET}\n\
                 defaults\n    mode http\n    timeout client 1h\n    timeout connect 1s\n    timeout server 1h\n    \
                 errorfile 503 HERE/503.http\n\
                 userlist people\n    user joe insecure-password {SECRET}\n\
                 frontend f\n    bind 127.0.0.1:8001\n    bind 127.0.0.1:8443 ssl crt HERE/certs/ ca-file HERE/ca.pem verify optional\n    \
                 http-request deny if {{ src -f HERE/blocked.lst }}\n    \
                 http-request set-header X-Pool %[req.hdr(host),map(HERE/hosts.map,none)]\n    \
                 http-request set-header X-Env \"${{SITE_VALUE}}\"\n",
                place.display()
            ),
        );
        let pidfile = service.pidfile().display().to_string();
        service.arguments =
            ["-p", &pidfile, "-f", &format!("{here}/conf.d")].map(str::to_owned).to_vec();
        service.wrapper = ["env", &format!("SITE_VALUE={SECRET}")].map(str::to_owned).to_vec();
        service.start();
        Site { bed, store: bed.directory().join("store"), service }
    }

    /// Runs `backup`; gives its exit code and what it said.
    pub fn try_backup(&self, arguments: &[&str]) -> (i32, String) {
        let store = self.store.display().to_string();
        let all = [&["backup"], arguments, &["--to", &store]].concat();
        let output = Exporter::command(self.bed, &all);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!said.contains("panicked"), "{said}");
        (output.status.code().unwrap(), said)
    }

    /// Runs `backup`, and expects this exit code and these words.
    #[track_caller]
    pub fn backup(&self, arguments: &[&str], code: i32, words: &[&str]) -> String {
        let (found, said) = self.try_backup(arguments);
        assert_eq!(found, code, "backup {arguments:?}:\n{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in:\n{said}");
        }
        said
    }

    /// Takes a backup; gives its name.
    #[track_caller]
    pub fn create(&self, arguments: &[&str]) -> String {
        let before = self.names();
        self.backup(&[&["create"], arguments].concat(), 0, &[]);
        let mut new = self.names();
        new.retain(|name| !before.contains(name));
        assert_eq!(new.len(), 1, "{new:?}");
        new.remove(0)
    }

    /// The names of all backups that are whole or claim to be, oldest first.
    pub fn names(&self) -> Vec<String> {
        let store = self.store.display().to_string();
        let output =
            Exporter::command(self.bed, &["backup", "list", "--output", "json", "--to", &store]);
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let all = listed["backups"].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }

    pub fn manifest(&self, name: &str) -> Value {
        let text = fs::read(self.store.join(name).join("manifest.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// A file of the site.
    pub fn file(&self, name: &str) -> PathBuf {
        self.service.path("v1").join(name)
    }
}

/// Every file and directory below a place, the place included.
pub fn below(place: &Path) -> Vec<PathBuf> {
    let mut found = vec![place.to_owned()];
    for entry in fs::read_dir(place).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// The paths in a list of the manifest.
pub fn paths(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap().to_owned()).collect()
}
