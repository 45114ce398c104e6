//! Finds the systemd unit of a service, its drop-ins and its files of variables.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::tree;
use crate::backup::manifest::{Loads, Role};
use crate::backup::reference::Reference;
use crate::sample::paths::route;

/// Where units lie, the first that wins first (systemd.unit(5)).
const PLACES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The largest unit that is read.
const MOST_BYTES: u64 = 1 << 20;

/// What the unit of this name consists of. A file of variables that its name cannot tell, because it has a
/// specifier (`%i`), is not found.
#[must_use]
pub fn references(root: &OwnedFd, unit: &str) -> Vec<Reference> {
    let names = names(unit);
    let mut found: Vec<Reference> = Vec::new();
    let mut texts = Vec::new();
    let mut add = |path: PathBuf, role| {
        let (read_in, named_by) = ("/".into(), format!("unit {unit}"));
        found.push(Reference { path, role, required: false, read_in, named_by });
    };
    let fragments = names.iter().flat_map(|name| PLACES.map(|place| Path::new(place).join(name)));
    if let Some((path, text)) =
        fragments.into_iter().find_map(|path| Some((path.clone(), text(root, &path)?)))
    {
        add(path, Role::Unit);
        texts.push(text);
    }
    for place in PLACES {
        for name in &names {
            let directory = Path::new(place).join(format!("{name}.d"));
            let listed = listed(root, &directory);
            if listed.is_empty() {
                continue;
            }
            let drop_ins = listed.iter().map(|name| directory.join(name));
            texts.extend(drop_ins.filter_map(|path| text(root, &path)));
            add(directory, Role::Unit);
        }
    }
    for path in texts.iter().flat_map(|text| variable_files(text)) {
        add(path, Role::Variables);
    }
    found
}

/// The names of a unit: its own, and for an instance that of its template.
fn names(unit: &str) -> Vec<String> {
    let template = unit.split_once('@').and_then(|(name, rest)| {
        let (_, suffix) = rest.rsplit_once('.')?;
        Some(format!("{name}@.{suffix}"))
    });
    let plain = Some(unit.to_owned()).filter(|unit| !unit.contains('/'));
    plain.into_iter().chain(template.filter(|name| name != unit && !name.contains('/'))).collect()
}

/// The paths in lines such as `EnvironmentFile=-/etc/default/haproxy`.
fn variable_files(text: &str) -> impl Iterator<Item = PathBuf> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix("EnvironmentFile"));
    let values = values.filter_map(|rest| rest.trim_start().strip_prefix('='));
    let paths = values.map(|value| value.trim().trim_start_matches('-').trim_matches('"'));
    paths.filter(|path| path.starts_with('/') && !path.contains(['%', '*', '?'])).map(PathBuf::from)
}

fn text(root: &OwnedFd, path: &Path) -> Option<String> {
    let route = route::follow(root, path).ok()?;
    let mut text = String::new();
    let file = File::from(route.open(OFlags::RDONLY).ok()?);
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn listed(root: &OwnedFd, path: &Path) -> Vec<OsString> {
    let opened = route::follow(root, path).ok();
    let opened = opened.and_then(|route| route.open(OFlags::RDONLY | OFlags::DIRECTORY).ok());
    let names = opened.and_then(|directory| tree::names(&directory).ok()).unwrap_or_default();
    names.into_iter().filter(|name| Loads::DropIns.takes(name.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_the_files_of_its_template() {
        assert_eq!(names("haproxy.service"), ["haproxy.service"]);
        assert_eq!(names("haproxy@a.service"), ["haproxy@a.service", "haproxy@.service"]);
        assert!(names("../x.service").is_empty());
    }

    #[test]
    fn files_of_variables() {
        let text = "[Service]\nEnvironmentFile=-/etc/default/haproxy\n EnvironmentFile = /etc/b\n\
                    EnvironmentFile=/etc/%i\n#EnvironmentFile=/no\n";
        let found: Vec<_> = variable_files(text).collect();
        assert_eq!(found, ["/etc/default/haproxy", "/etc/b"].map(PathBuf::from));
    }
}
