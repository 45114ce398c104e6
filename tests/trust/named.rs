//! A configuration that the exporter's own configuration names (`match.config`) counts although it does
//! not run. What another user can put in its place is shown only as far as that user could read it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::other_user::{GLOBAL, OtherUser};
use crate::support::*;

/// What `check --port` says of a port, where `lb` is the service of this configuration.
fn said(bed: &Bed, config: &str, port: &str) -> String {
    let yaml = format!("haproxys: [{{name: lb, match: {{config: {config}}}}}]\n");
    let own = bed.directory().join("named.yaml");
    fs::write(&own, yaml).unwrap();
    let own = own.display().to_string();
    let (_, text) = check(bed, &["--config.file", &own, "--port", port]);
    let (_, json) = check(bed, &["--config.file", &own, "--port", port, "--output", "json"]);
    text + &json
}

#[test]
fn a_link_of_another_users_on_the_way_to_a_named_configuration_lends_no_rights() {
    let bed = Bed::new();
    let user = OtherUser::new(&bed, Version::V3_2);
    let store = bed.directory().join("closed");
    fs::create_dir(&store).unwrap();
    let secret = store.join("secret.cfg");
    fs::write(&secret, format!("{GLOBAL}    bind 127.0.0.1:7777\n")).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let secret = secret.display().to_string();
    let shows = |said: &str| said.contains("declared by lb") || said.contains("secret.cfg:");

    let direct = said(&bed, &secret, "tcp/7777");
    assert!(direct.contains("7777") && direct.contains("secret.cfg"), "{direct}");
    let own_link = bed.directory().join("own.cfg");
    symlink(&secret, &own_link).unwrap();
    let own_link = said(&bed, &own_link.display().to_string(), "tcp/7777");
    assert!(own_link.contains("own.cfg") && !own_link.contains("not shown"), "{own_link}");

    user.directory("lent");
    let lent = user.configuration("lent/lb.cfg", 7778);
    let readable = said(&bed, &lent, "tcp/7778");
    assert!(readable.contains("lb.cfg") && !readable.contains("not shown"), "{readable}");
    user.shell(&format!("ln -sf {secret} {lent}"));
    let swapped = said(&bed, &lent, "tcp/7777");
    assert!(swapped.contains("not shown") && !shows(&swapped), "{swapped}");
    user.shell(&format!(
        "rm {lent} && rmdir {0} && ln -s {1} {0}",
        user.path("lent").display(),
        store.display()
    ));
    let through_directory = user.path("lent/secret.cfg").display().to_string();
    let swapped = said(&bed, &through_directory, "tcp/7777");
    assert!(swapped.contains("not shown"), "{swapped}");
}
