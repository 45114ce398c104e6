//! Finds the package that a program came with, in dpkg's database. Other package managers keep theirs in
//! forms that only they read, so that the package is then not known.

use std::fs;
use std::path::Path;

/// Where dpkg keeps what is installed.
const DATABASE: &str = "/var/lib/dpkg";

/// The package that has this file, and its version: `haproxy 2.6.12-1+deb12u2`.
#[must_use]
pub fn package_of(program: &Path) -> Option<String> {
    package_in(Path::new(DATABASE), program)
}

fn package_in(database: &Path, program: &Path) -> Option<String> {
    // Only packages of HAProxy itself are looked at: their names begin like this.
    let lists = fs::read_dir(database.join("info")).ok()?.flatten();
    let lists = lists.filter_map(|entry| entry.file_name().into_string().ok());
    let names = lists.filter_map(|name| name.strip_suffix(".list").map(str::to_owned));
    let has_program = |name: &String| {
        let list =
            fs::read_to_string(database.join(format!("info/{name}.list"))).unwrap_or_default();
        list.lines().any(|line| Path::new(line) == program)
    };
    let name = names.filter(|name| name.contains("haproxy")).find(has_program)?;
    let name = name.split(':').next().unwrap_or_default();
    let status = fs::read_to_string(database.join("status")).ok()?;
    let own = status
        .split("\n\n")
        .find(|stanza| stanza.lines().any(|line| line.strip_prefix("Package: ") == Some(name)))?;
    let version = own.lines().find_map(|line| line.strip_prefix("Version: "))?;
    Some(format!("{name} {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_a_program() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path();
        fs::create_dir_all(place.join("info")).unwrap();
        fs::write(place.join("info/haproxy.list"), "/.\n/usr/sbin/haproxy\n").unwrap();
        let status = "Package: a\nVersion: 1\n\nPackage: haproxy\nStatus: ok\nVersion: 2.6.12-1\n";
        fs::write(place.join("status"), status).unwrap();
        let found = package_in(place, Path::new("/usr/sbin/haproxy"));
        assert_eq!(found.as_deref(), Some("haproxy 2.6.12-1"));
        assert_eq!(package_in(place, Path::new("/opt/haproxy")), None);
    }
}
