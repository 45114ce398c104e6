//! Nothing of a file that only root may read reaches an output of root's exporter, by whichever way
//! another user's `HAProxy`s are made to name it.
//!
//! Each secret says the same things as a file that all may read, in other words. Those of the public
//! file must be in an output, or the test would not look where it should.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::other_user::{GLOBAL, OtherUser};
use crate::support::*;

/// What a file says, by which it is recognised in an output.
struct Marks {
    /// In words, paths and names.
    word: &'static str,
    /// The address of a listener.
    address: &'static str,
    /// The port of a listener.
    port: &'static str,
    /// The content of a pidfile.
    pid: &'static str,
}

const SECRET: Marks =
    Marks { word: "SECRETMARK", address: "127.66.77.88", port: "26677", pid: "3987654" };
const PUBLIC: Marks =
    Marks { word: "PUBLICMARK", address: "127.66.77.99", port: "26688", pid: "3123456" };

impl Marks {
    fn all(&self) -> [&'static str; 4] {
        [self.word, self.address, self.port, self.pid]
    }

    /// A configuration that HAProxy would load.
    fn sound(&self) -> String {
        let Marks { word, address, port, .. } = self;
        format!(
            "{GLOBAL}    bind {address}:{port} name {word}\n\nlisten {word}\n    mode tcp\n    \
             bind /run/{word}.sock\n    server {word} {address}:{port}\n"
        )
    }

    /// One that it refuses at every line that has a word of its own.
    fn refused(&self) -> String {
        let Marks { word, address, port, .. } = self;
        format!(
            "global\n    {word}\n    setenv {word} {word}\n    pidfile /{word}.pid\n    \
             chroot /{word}\n\npeers {word}\n    peer {word} {word}.invalid:1\n\n\
             listen {word}\n    bind {word}.invalid:80\n    bind 127.0.0.1:{word}\n    \
             bind 127.0.0.1:0{word}-1\n    bind {address}:{port} interface {word}\n    \
             bind {address}:{port} namespace {word}\n    bind \"${{{word}}}:99999\"\n    \
             bind {word}@1:1\n    bind unix@\n    {word} {word}\n.alert \"{word}\"\n.notice {word}\n\
             .if {word}(\"{word}\n.if streq({word},{word})\n    bind {address}:{port}\n"
        )
    }

    /// What no HAProxy reads as a configuration.
    fn words(&self) -> String {
        format!("root:$6${}:19000:0:99999:7:::\n", self.word)
    }

    fn pidfile(&self) -> String {
        format!("{}\n", self.pid)
    }

    fn contents(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("sound.cfg", self.sound()),
            ("refused.cfg", self.refused()),
            ("words.cfg", self.words()),
            ("pidfile", self.pidfile()),
        ])
    }

    /// A directory with all of it, and one below it with all of it under names that begin with `stem`.
    fn store(&self, directory: &Path, [directory_mode, file_mode]: [u32; 2], stem: &str) {
        fs::create_dir_all(directory.join("conf.d")).unwrap();
        for (name, content) in self.contents() {
            let entry = format!("conf.d/{stem}-{name}");
            for file in [directory.join(name), directory.join(entry)] {
                fs::write(&file, &content).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(file_mode)).unwrap();
            }
        }
        for closed in [directory.join("conf.d"), directory.to_owned()] {
            fs::set_permissions(closed, fs::Permissions::from_mode(directory_mode)).unwrap();
        }
    }
}

/// A way by which a HAProxy of the user's is made to name what lies in a store: what is put into its
/// directory `place`, and what its arguments are there.
struct Way {
    name: &'static str,
    /// What is in its place while HAProxy starts.
    before: fn(&OtherUser<'_>, &str, u16),
    arguments: fn(&Path) -> Vec<String>,
    /// What the user does then, as a shell's lines; `$store` and `$place` are set.
    swap: &'static str,
    /// Its file or directory is unreadable under a name in its place.
    is_named_by_its_place: bool,
}

const FILE: fn(&Path) -> Vec<String> = |place| {
    let file = place.join("haproxy.cfg").display().to_string();
    ["-db", "-f", &file].map(str::to_owned).to_vec()
};
const DIRECTORY: fn(&Path) -> Vec<String> = |place| {
    let directory = place.join("conf.d").display().to_string();
    ["-db", "-f", &directory].map(str::to_owned).to_vec()
};
const RELATIVE: fn(&Path) -> Vec<String> = |place| {
    let directory = place.join("sub").display().to_string();
    ["-db", "-C", &directory, "-f", "sound.cfg"].map(str::to_owned).to_vec()
};
const PIDFILE: fn(&Path) -> Vec<String> = |place| {
    let [file, pidfile] =
        ["haproxy.cfg", "pidfile"].map(|name| place.join(name).display().to_string());
    ["-db", "-f", &file, "-p", &pidfile].map(str::to_owned).to_vec()
};

const ONE_FILE: fn(&OtherUser<'_>, &str, u16) = |user, place, port| {
    user.configuration(&format!("{place}/haproxy.cfg"), port);
};
const IN_A_DIRECTORY: fn(&OtherUser<'_>, &str, u16) = |user, place, port| {
    user.directory(&format!("{place}/conf.d"));
    user.configuration(&format!("{place}/conf.d/a.cfg"), port);
};

const WAYS: [Way; 12] = [
    Way {
        name: "absent",
        before: ONE_FILE,
        arguments: FILE,
        swap: "ln -s $store/absent.cfg $place/new && mv -f $place/new $place/haproxy.cfg",
        is_named_by_its_place: true,
    },
    Way {
        name: "link-sound",
        before: ONE_FILE,
        arguments: FILE,
        swap: "ln -s $store/sound.cfg $place/new && mv -f $place/new $place/haproxy.cfg",
        is_named_by_its_place: true,
    },
    Way {
        name: "link-refused",
        before: ONE_FILE,
        arguments: FILE,
        swap: "ln -s $store/refused.cfg $place/new && mv -f $place/new $place/haproxy.cfg",
        is_named_by_its_place: true,
    },
    Way {
        name: "link-words",
        before: ONE_FILE,
        arguments: FILE,
        swap: "ln -s $store/words.cfg $place/new && mv -f $place/new $place/haproxy.cfg",
        is_named_by_its_place: true,
    },
    Way {
        name: "two-links",
        before: ONE_FILE,
        arguments: FILE,
        swap: "ln -s $store $place/there; ln -s $place/there/refused.cfg $place/new && \
               mv -f $place/new $place/haproxy.cfg",
        is_named_by_its_place: true,
    },
    Way {
        name: "through-proc",
        before: ONE_FILE,
        arguments: FILE,
        swap: "ln -s /proc/1/root$store/sound.cfg $place/new && mv -f $place/new $place/haproxy.cfg",
        is_named_by_its_place: true,
    },
    Way {
        name: "directory-swapped",
        before: IN_A_DIRECTORY,
        arguments: DIRECTORY,
        swap: "mv $place/conf.d $place/old && ln -s $store/conf.d $place/conf.d",
        is_named_by_its_place: true,
    },
    Way {
        name: "link-in-a-directory",
        before: IN_A_DIRECTORY,
        arguments: DIRECTORY,
        swap: "ln -s $store/refused.cfg $place/conf.d/b.cfg; ln -s $store/sound.cfg $place/conf.d/c.cfg",
        is_named_by_its_place: true,
    },
    Way {
        name: "parent-swapped",
        before: |user, place, port| {
            user.directory(&format!("{place}/sub"));
            user.configuration(&format!("{place}/sub/sound.cfg"), port);
        },
        arguments: RELATIVE,
        swap: "mv $place/sub $place/old && ln -s $store $place/sub",
        is_named_by_its_place: false,
    },
    Way {
        name: "pidfile",
        before: ONE_FILE,
        arguments: PIDFILE,
        swap: "ln -s $store/pidfile $place/pidfile",
        is_named_by_its_place: true,
    },
    Way {
        name: "configured-pidfile",
        before: ONE_FILE,
        arguments: FILE,
        swap: "printf 'global\\n    pidfile %s/pidfile\\n' $store >$place/new; \
               cat $place/haproxy.cfg >>$place/new; mv -f $place/new $place/haproxy.cfg",
        is_named_by_its_place: false,
    },
    Way {
        name: "pidfile-by-a-variable",
        before: |user, place, port| {
            let file = format!("{place}/haproxy.cfg");
            let own = user.configuration(&file, port);
            let text = fs::read_to_string(own).unwrap();
            user.write(&file, &format!("global\n    pidfile \"${{PLACE}}/linked\"\n{text}"));
        },
        arguments: FILE,
        swap: "ln -s $store/pidfile $place/linked",
        is_named_by_its_place: true,
    },
];

/// Every output of the exporter, by name. The log is the last, for what the others cause.
fn outputs(bed: &Bed, exporter: &Exporter<'_>) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    for path in ["/metrics", "/", "/state.json", "/-/ready"] {
        outputs.insert(format!("GET {path}"), exporter.get(path).unwrap().body);
    }
    let commands = [
        "inspect",
        "inspect --output json",
        "inspect --port 20001",
        "inspect --port 80",
        "check",
        "check --offline",
        "check --output json",
        "check --strict --output json",
    ];
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let output = Exporter::command(bed, &words);
        outputs.insert(command.to_owned(), text(&output.stdout) + &text(&output.stderr));
    }
    outputs.insert("log".to_owned(), exporter.running.log());
    outputs
}

/// Which of the marks are in which output.
fn found(marks: &Marks, outputs: &BTreeMap<String, String>) -> BTreeSet<String> {
    let pairs = outputs.iter().flat_map(|(name, text)| {
        let in_it = marks.all().into_iter().filter(|mark| text.contains(mark));
        in_it.map(move |mark| format!("{mark} in {name}"))
    });
    pairs.collect()
}

#[test]
fn no_byte_of_a_file_that_only_root_may_read_is_shown() {
    let bed = Bed::new();
    let user = OtherUser::new(&bed, Version::V3_2);
    let public = bed.directory().join("public");
    PUBLIC.store(&public, [0o755, 0o644], PUBLIC.word);
    // Closed by its own mode, and closed by that of its directory.
    let closed = bed.directory().join("closed-files");
    SECRET.store(&closed, [0o755, 0o600], "a");
    let behind = bed.directory().join("closed-directory");
    // Its names, too, are in it for its owner alone.
    SECRET.store(&behind, [0o700, 0o644], SECRET.word);

    let stores: [(&str, PathBuf); 3] = [("p", public.clone()), ("f", closed), ("d", behind)];
    let mut places = Vec::new();
    let mut running = Vec::new();
    for (prefix, store) in &stores {
        for way in &WAYS {
            let name = format!("{prefix}-{}", way.name);
            let place = user.directory(&name);
            let port = 20_001 + u16::try_from(places.len()).unwrap();
            (way.before)(&user, &name, port);
            let variable = [("PLACE", place.display().to_string())];
            let mut command = user.haproxy(&variable);
            command.args((way.arguments)(&place));
            running.push((name.clone(), bed.start(command, &format!("{name}.log"))));
            places.push((way, store, place));
        }
    }
    let roots_environment = roots_environment(&bed, &user, &mut running);
    named_directly(&bed, &user, &stores, &mut running);
    let roots = roots_service(&bed, &user);

    let yaml = "defaults: {stale_grace: 1s, reload_grace: 1s}\n";
    let mut command = bed.command(Exporter::binary());
    command.args(["--log.level", "debug"]);
    let exporter = Exporter::launched(&bed, command, yaml);
    exporter.await_page("every HAProxy", |page| {
        page.sum("haproxy_host_up", &[]) >= (places.len() + 2) as f64
    });
    for (name, one) in &mut running {
        assert!(!one.has_ended(), "{name} has ended: {}", one.log());
    }
    for (way, store, place) in &places {
        let (store, place) = (store.display(), place.display());
        user.shell(&format!("store={store} place={place}; {}", way.swap));
    }
    user.shell(&roots_environment);
    user.shell(&roots);

    exporter.await_page("the swaps", |_| {
        let secret = places.iter().filter(|(_, store, _)| **store != public);
        let mut named = secret.filter(|(way, ..)| way.is_named_by_its_place);
        named.all(|(.., place)| !reason(&exporter, place).is_empty())
    });
    exporter.await_samples(12);
    let outputs = outputs(&bed, &exporter);
    let shown = found(&PUBLIC, &outputs);
    for mark in PUBLIC.all() {
        assert!(
            shown.iter().any(|found| found.starts_with(mark)),
            "{mark} is shown nowhere: {shown:#?}"
        );
    }
    let leaked = found(&SECRET, &outputs);
    assert!(leaked.is_empty(), "{leaked:#?}");
    // Not even whether there is a file of that name.
    let [absent, present] =
        ["d-absent", "d-link-words"].map(|name| reason(&exporter, &user.path(name)));
    assert!(!absent.is_empty());
    assert_eq!(absent.replace("d-absent", "d-link-words"), present);
}

/// Why something below a directory could not be read, as the exporter says; empty if it says nothing.
fn reason(exporter: &Exporter<'_>, directory: &Path) -> String {
    let state = exporter.get("/state.json").unwrap().body;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let below = format!("{}/", directory.display());
    let entries = state["unreadable"].as_array().unwrap().iter();
    let mut entries =
        entries.filter(|entry| entry["subject"].as_str().unwrap().starts_with(&below));
    entries.next().map(|entry| entry["reason"].as_str().unwrap().to_owned()).unwrap_or_default()
}

/// A process of root's whose environment is a secret, and the user's link to that.
fn roots_environment(
    bed: &Bed,
    user: &OtherUser<'_>,
    running: &mut Vec<(String, Running)>,
) -> String {
    let mut sleep = bed.command("env");
    sleep.arg(format!("DB_PASSWORD={}", SECRET.word)).args(["sleep", "infinity"]);
    let sleep = bed.start(sleep, "sleep.log");
    let environment = format!("/proc/{}/environ", sleep.pid());
    running.push(("sleep".to_owned(), sleep));
    let place = user.directory("environment");
    let own = user.configuration("environment/haproxy.cfg", 20_500);
    let mut command = user.haproxy(&[]);
    command.args(["-db", "-f", &own]);
    running.push(("environment".to_owned(), bed.start(command, "environment.log")));
    let place = place.display();
    format!("ln -s {environment} {place}/new && mv -f {place}/new {place}/haproxy.cfg")
}

/// Programs that only call themselves haproxy and name what they never could have read.
fn named_directly(
    bed: &Bed,
    user: &OtherUser<'_>,
    stores: &[(&str, PathBuf); 3],
    running: &mut Vec<(String, Running)>,
) {
    for (prefix, store) in stores {
        for file in ["sound.cfg", "refused.cfg", "words.cfg", "conf.d"] {
            let mut command = user.impostor(&[]);
            command.args(["-D", "-p"]).arg(store.join("pidfile")).arg("-f").arg(store.join(file));
            let name = format!("impostor-{prefix}-{file}");
            running.push((name.clone(), bed.start(command, &format!("{name}.log"))));
        }
    }
}

/// A HAProxy of root's whose configuration lies where the user may change it, and how the user does
/// that: root's rights are not lent.
fn roots_service(bed: &Bed, user: &OtherUser<'_>) -> String {
    let mut service = Service::named(bed, Version::V3_2, Manner::Daemon, "roots");
    let place = user.directory("lent");
    let own = user.configuration("lent/haproxy.cfg", 20_501);
    service.arguments[3] = own;
    service.start();
    symlink(&place, bed.directory().join("roots/conf")).unwrap();
    let (place, store) = (place.display(), bed.directory().join("closed-files"));
    let store = store.display();
    format!("ln -s {store}/refused.cfg {place}/new && mv -f {place}/new {place}/haproxy.cfg")
}
