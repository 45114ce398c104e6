//! Which files a configuration names, by HAProxy's configuration manual.
//!
//! The lines come from the configuration reader, so that variables are expanded, and what a condition rules
//! out is not there. A name is resolved as HAProxy resolves it: against the base of its kind (`crt-base`,
//! `ca-base`, …), else against `default-path`, else against the directory that HAProxy was started in.

use std::path::{Path, PathBuf};

use super::bases::{Bases, join};
use super::calls::{self, Call};
use super::companions::with_companions;
use super::manifest::Role;
use super::reference::{NotTaken, Reference};
use crate::haproxy::config::{Place, Statement};

/// Everything that a configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// The files and directories, in the order of the lines.
    pub references: Vec<Reference>,
    /// What no backup takes.
    pub not_taken: Vec<NotTaken>,
    /// The lines whose names are not UTF-8, so that they cannot be followed.
    pub unreadable: Vec<String>,
    /// The bases at the end of the configuration, which the lines of a crt-list use.
    pub bases: Bases,
}

/// Finds what the lines name. Relative names start from `directory`.
#[must_use]
pub fn of(statements: &[Statement], directory: &Path) -> Named {
    let mut bases = Bases::of(directory);
    let mut named = Named::default();
    for line in statements {
        bases.learn(line);
        let mut reader = Line { statement: line, bases: &bases, named: &mut named };
        if line.words.iter().any(|word| word.contains('\u{fffd}')) {
            reader.named.unreadable.push(reader.place());
            continue;
        }
        reader.read();
        bases.leave(line);
    }
    named.bases = bases;
    named
}

/// Finds what the lines of a filter's own file name, such as one of SPOE: the files of patterns and maps.
#[must_use]
pub fn of_filter(text: &str, filter: &Reference) -> Vec<Reference> {
    let bases = Bases::of(&filter.read_in);
    let mut named = Named::default();
    for (index, line) in text.lines().enumerate() {
        let words = line.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
        let statement = Statement {
            place: Place { file: filter.path.clone().into(), line: index + 1, columns: 1..1 },
            section: String::new(),
            words: words.map(str::to_owned).collect(),
            is_certain: true,
        };
        Line { statement: &statement, bases: &bases, named: &mut named }.arguments();
    }
    named.references
}

/// Each word with the one after it.
pub(super) fn pairs<'w>(words: &[&'w str]) -> impl Iterator<Item = (&'w str, &'w str)> {
    words.iter().copied().zip(words.iter().copied().skip(1))
}

/// One line, while it is read.
struct Line<'a> {
    statement: &'a Statement,
    bases: &'a Bases,
    named: &'a mut Named,
}

impl Line<'_> {
    fn place(&self) -> String {
        format!("{}:{}", self.statement.place.file.display(), self.statement.place.line)
    }

    fn name(&mut self, base: Option<&PathBuf>, name: &str, role: Role, required: bool) {
        let read_in = self.bases.while_reading(&self.statement.place.file);
        let path = join(&read_in, base, name);
        let named_by = self.place();
        if role == Role::Certificate {
            self.named.references.extend(with_companions(path, &read_in, &named_by));
        } else {
            // A condition that could not be decided may rule the line out.
            let required = required && self.statement.is_certain;
            self.named.references.push(Reference { path, role, required, read_in, named_by });
        }
    }

    /// Patterns and maps may have a prefix (since 3.0): `opt@` need not exist, `virt@` is no file.
    fn pattern_file(&mut self, name: &str, role: Role) {
        if name.starts_with("virt@") {
            return;
        }
        let (name, required) = match name.strip_prefix("opt@") {
            Some(name) => (name, false),
            None => (name.strip_prefix("file@").unwrap_or(name), true),
        };
        self.name(None, name, role, required);
    }

    fn not_taken(&mut self, path: &str, why: &'static str) {
        let path = self.bases.while_reading(&self.statement.place.file).join(path);
        self.named.not_taken.push(NotTaken { path, why });
    }

    fn read(&mut self) {
        let words: Vec<&str> = self.statement.words.iter().map(String::as_str).collect();
        let section = self.statement.section.as_str();
        match (section, words.as_slice()) {
            ("global", ["lua-load" | "lua-load-per-thread", path, ..]) => {
                self.name(None, path, Role::Script, true);
            }
            (
                "global",
                [
                    "ssl-dh-param-file"
                    | "51degrees-data-file"
                    | "deviceatlas-json-file"
                    | "wurfl-data-file"
                    | "wurfl-patch-file"
                    | "h1-case-adjust-file",
                    path,
                    ..,
                ],
            ) => self.name(None, path, Role::Other, true),
            ("global", ["issuers-chain-path" | "httpclient.ssl.ca-file", path, ..])
                if !path.starts_with('@') =>
            {
                self.name(None, path, Role::Authorities, true);
            }
            ("global", ["server-state-file", path, ..]) => {
                self.name(self.bases.states.as_ref(), path, Role::State, false);
            }
            ("global", ["stats-file", path, ..]) => self.name(None, path, Role::State, false),
            ("acme", ["account-key", path, ..]) => self.name(None, path, Role::Key, false),
            ("program", ["command", path, ..]) | (_, ["external-check", "command", path, ..]) => {
                self.not_taken(path, "a program that HAProxy runs; no part of its configuration");
            }
            ("resolvers", ["parse-resolv-conf", ..]) => {
                self.not_taken("/etc/resolv.conf", "a file of the system");
            }
            (_, ["server-state-file-name", name, ..]) if *name != "use-backend-name" => {
                self.name(self.bases.states.as_ref(), name, Role::State, false);
            }
            (_, ["backend" | "listen", name, ..]) if self.bases.states.is_some() => {
                self.name(self.bases.states.as_ref(), name, Role::State, false);
            }
            (_, ["errorfile", _, path, ..]) => self.name(None, path, Role::Page, true),
            ("crt-store", ["load", options @ ..]) => self.store(options),
            (_, ["filter", options @ ..]) => {
                for (_, path) in pairs(options).filter(|(word, _)| *word == "config") {
                    self.name(None, path, Role::Filter, true);
                }
            }
            (
                _,
                [
                    "http-request" | "http-response" | "http-after-response" | "http-error",
                    rest @ ..,
                ],
            ) => {
                let of_file = ["errorfile", "file", "lf-file"];
                for (_, path) in pairs(rest).filter(|(word, _)| of_file.contains(word)) {
                    self.name(None, path, Role::Page, true);
                }
            }
            (
                _,
                [
                    "bind" | "server" | "default-server" | "server-template" | "peer" | "ssl-f-use"
                    | "default-bind",
                    options @ ..,
                ],
            ) => self.tls(options),
            _ => {}
        }
        self.arguments();
    }

    /// What may stand in any line: patterns of conditions, and arguments of converters.
    fn arguments(&mut self) {
        let statement = self.statement;
        let words: Vec<&str> = statement.words.iter().map(String::as_str).collect();
        self.patterns(&words);
        for word in words {
            self.calls(word);
        }
    }

    /// The options of a bind or server line.
    fn tls(&mut self, options: &[&str]) {
        let bases = self.bases;
        for (word, value) in pairs(options).filter(|(_, value)| !value.starts_with('@')) {
            match word {
                "crt" => self.name(bases.certificates.as_ref(), value, Role::Certificate, true),
                "crt-list" => self.name(None, value, Role::CrtList, true),
                "ca-file" | "ca-verify-file" | "crl-file" => {
                    self.name(bases.authorities.as_ref(), value, Role::Authorities, true);
                }
                "ca-sign-file" => {
                    self.name(bases.authorities.as_ref(), value, Role::Certificate, true);
                }
                "tls-ticket-keys" => self.name(None, value, Role::Key, true),
                "ech" => self.name(None, value, Role::Key, false),
                _ => {}
            }
        }
    }

    /// The options of `load` in a crt-store.
    fn store(&mut self, options: &[&str]) {
        let bases = self.bases;
        for (word, value) in pairs(options) {
            match word {
                "crt" => self.name(bases.certificates.as_ref(), value, Role::Certificate, true),
                "key" => self.name(bases.keys.as_ref(), value, Role::Certificate, true),
                "ocsp" | "issuer" | "sctl" => {
                    self.name(bases.certificates.as_ref(), value, Role::Certificate, false);
                }
                _ => {}
            }
        }
    }

    /// The files of `-f` in a named ACL or an anonymous one.
    fn patterns(&mut self, words: &[&str]) {
        let opens = |word: &&str| word.trim_start_matches('!') == "{";
        let has_acl = words.first() == Some(&"acl") || words.iter().any(opens);
        for (_, path) in pairs(words).filter(|(word, _)| has_acl && *word == "-f") {
            self.pattern_file(path, Role::Patterns);
        }
    }

    /// The files in the arguments of converters and actions, wherever they stand in a word.
    fn calls(&mut self, word: &str) {
        for Call { name: call, first, second } in calls::of(word) {
            match call.as_str() {
                // Its key may stand there itself, or the name of a variable.
                "jwt_verify" | "jwt_verify_cert" | "jwt_decrypt_cert" => {
                    let key = if call == "jwt_decrypt_cert" { Some(first) } else { second };
                    if let Some(path) = key.filter(|path| path.contains('/')) {
                        self.name(None, &path, Role::Certificate, false);
                    }
                }
                "add-acl" | "del-acl" => self.pattern_file(&first, Role::Patterns),
                _ => self.pattern_file(&first, Role::Map),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::companions::{BESIDE, BUNDLE};
    use crate::haproxy::config::{Launch, SourceFile, statements};

    /// What the text names, as role and path; the companions of certificates are left out.
    fn named(text: &str) -> Vec<String> {
        let file =
            SourceFile { path: "/etc/haproxy/haproxy.cfg".into(), text: text.as_bytes().to_vec() };
        let found = of(&statements(&[file], &Launch::default()), Path::new("/cwd"));
        let companion = |path: &Path| {
            path.extension().is_some_and(|e| BESIDE.iter().chain(&BUNDLE).any(|own| e == *own))
        };
        let shown = found.references.iter().filter(|one| !companion(&one.path));
        shown.map(|one| format!("{:?} {}", one.role, one.path.display())).collect()
    }

    #[test]
    fn each_keyword_names_its_files() {
        for (text, expected) in [
            ("global\n lua-load /l/a.lua x\n", vec!["Script /l/a.lua"]),
            (
                "frontend f\n bind :443 ssl crt /c/a.pem crt-list /c/list ca-file ca.pem\n",
                vec!["Certificate /c/a.pem", "CrtList /c/list", "Authorities /cwd/ca.pem"],
            ),
            (
                "global\n crt-base /c\n ca-base /ca\nfrontend f\n bind :1 ssl crt a.pem ca-file b.pem\n",
                vec!["Certificate /c/a.pem", "Authorities /ca/b.pem"],
            ),
            (
                "backend b\n server s 1:1 ssl ca-file @system-ca crt /c/client.pem\n",
                vec!["Certificate /c/client.pem"],
            ),
            (
                "frontend f\n acl a src -f /p/a.lst -f opt@b.lst\n http-request deny if { src -f virt@x }\n",
                vec!["Patterns /p/a.lst", "Patterns /cwd/b.lst"],
            ),
            (
                "frontend f\n http-request set-header X %[src,map_ip(/m/a.map,none)]\n use_backend %[path,map(b.map)]\n",
                vec!["Map /m/a.map", "Map /cwd/b.map"],
            ),
            (
                "frontend f\n errorfile 503 /e/503.http\n http-request return status 200 content-type text/plain lf-file /e/ok.txt\n",
                vec!["Page /e/503.http", "Page /e/ok.txt"],
            ),
            (
                "global\n default-path config\nfrontend f\n errorfile 503 503.http\n",
                vec!["Page /etc/haproxy/503.http"],
            ),
            (
                "global\n default-path config\nfrontend f\n filter spoe config s.cfg\n errorfile 503 503.http\n",
                vec!["Filter /etc/haproxy/s.cfg", "Page /cwd/503.http"],
            ),
            (
                "global\n default-path origin /o\nfrontend f\n errorfile 503 503.http\n",
                vec!["Page /o/503.http"],
            ),
            (
                "global\n server-state-base /s\n server-state-file all\nbackend b\n",
                vec!["State /s/all", "State /s/b"],
            ),
            ("frontend f\n filter spoe engine e config /s/spoe.cfg\n", vec!["Filter /s/spoe.cfg"]),
            (
                "frontend f\n bind :1 ssl crt /c tls-ticket-keys /k/t\n",
                vec!["Certificate /c", "Key /k/t"],
            ),
            (
                "crt-store s\n crt-base /cs\n key-base /ks\n load crt a.crt key a.k\n",
                vec!["Certificate /cs/a.crt", "Certificate /ks/a.k"],
            ),
            ("frontend f\n # errorfile 503 /no\n", vec![]),
            (
                "frontend f\n http-request deny if !{ src -f /p/a.lst }\n http-request deny unless ! { src -f /p/b }\n",
                vec!["Patterns /p/a.lst", "Patterns /p/b"],
            ),
            (
                "frontend f\n http-request set-header X \"%[src,map('/m/a, b.map',x)]\"\n",
                vec!["Map /m/a, b.map"],
            ),
            ("global\n httpclient.ssl.ca-file /ca/x.pem\n", vec!["Authorities /ca/x.pem"]),
        ] {
            assert_eq!(named(text), expected, "{text}");
        }
    }

    #[test]
    fn the_file_of_a_filter_names_patterns_and_maps() {
        let text = "[e]\nspoe-message m\n  args v=src,map(m.map,x) # map(/no)\n  event on-x if { src -f /p/a.lst }\n";
        let filter = Reference {
            path: "/s/spoe.cfg".into(),
            role: Role::Filter,
            required: true,
            read_in: "/cwd".into(),
            named_by: String::new(),
        };
        let found = of_filter(text, &filter);
        let shown = found.iter().map(|one| format!("{} {}", one.named_by, one.path.display()));
        let expected = ["/s/spoe.cfg:3 /cwd/m.map", "/s/spoe.cfg:4 /p/a.lst"];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn programs_are_not_taken() {
        let text = "backend b\n external-check command /usr/bin/check\n";
        let file = SourceFile { path: "f".into(), text: text.as_bytes().to_vec() };
        let found = of(&statements(&[file], &Launch::default()), Path::new("/"));
        assert_eq!(found.not_taken[0].path, Path::new("/usr/bin/check"));
    }
}
