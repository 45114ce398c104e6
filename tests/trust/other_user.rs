//! A user without rights, and the programs that this user runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

/// The user, and its only group.
pub const USER: u32 = 65_534;

/// A configuration up to where the lines `bind` belong.
pub const GLOBAL: &str = "global
    nbthread 1

defaults
    timeout connect 5s
    timeout client 1h
    timeout server 1h

listen own
    mode tcp
    server nobody 127.0.0.1:9
";

/// What a copy of Python runs before it looks at its command line: it listens on as many ports as its
/// environment says, and waits, for any arguments.
const WAITS: &str = "
import os, signal, socket
made = [socket.create_server(('127.0.0.1', 0)) for _ in range(int(os.environ.get('LISTEN', 0)))]
while True:
    signal.pause()
";

/// The user's home in a bed, with a real `HAProxy` and a program that only calls itself so.
pub struct OtherUser<'b> {
    bed: &'b Bed,
    home: PathBuf,
    haproxy: PathBuf,
}

impl<'b> OtherUser<'b> {
    pub fn new(bed: &'b Bed, version: Version) -> Self {
        let home = bed.directory().join("user");
        fs::create_dir(&home).unwrap();
        give(&home);
        let user = Self { bed, home, haproxy: version.binary() };
        fs::create_dir(user.path("fake")).unwrap();
        copy_program("/usr/bin/python3", user.fake());
        user.write("fake/sitecustomize.py", WAITS);
        user
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Writes a file of the user's, which all may read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        give(&path);
        path
    }

    /// Makes a directory of the user's.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        give(&path);
        path
    }

    /// Runs a shell line as the user.
    pub fn shell(&self, line: &str) {
        let output = self.command("sh", &[]).args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    }

    /// A configuration of the user's with one listener.
    pub fn configuration(&self, name: &str, port: u16) -> String {
        let path = self.write(name, &format!("{GLOBAL}    bind 127.0.0.1:{port}\n"));
        path.display().to_string()
    }

    /// A command of the user's, with variables in its environment.
    pub fn command(&self, program: impl AsRef<Path>, variables: &[(&str, String)]) -> Command {
        let mut command = self.bed.command(tool("setpriv"));
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "env"])
            .args(variables.iter().map(|(name, value)| format!("{name}={value}")))
            .arg(program.as_ref());
        command
    }

    /// The real `HAProxy`, run by the user.
    pub fn haproxy(&self, variables: &[(&str, String)]) -> Command {
        self.command(&self.haproxy, variables)
    }

    /// A program that is called haproxy and is none. It takes `-m` for the name of a module, and what
    /// follows for that module's arguments; it never comes to read them.
    pub fn impostor(&self, variables: &[(&str, String)]) -> Command {
        let own = self.of_an_impostor();
        let variables: Vec<_> = own.into_iter().chain(variables.iter().cloned()).collect();
        let mut command = self.command(self.fake(), &variables);
        command.args(["-m", "100"]);
        command
    }

    /// The variables without which it would not wait.
    fn of_an_impostor(&self) -> [(&'static str, String); 2] {
        let library = self.path("fake").display().to_string();
        [("PYTHONHOME", "/usr".to_owned()), ("PYTHONPATH", library)]
    }

    /// Runs lines of Python as the user that start many impostors by a function
    /// `impostor(arguments, variables)`.
    pub fn impostors(&self, lines: &str) -> Command {
        let mut command = self.command("/usr/bin/python3", &[]);
        let own = self.of_an_impostor().map(|(name, value)| format!("{name:?}: {value:?}, "));
        let script = format!(
            "import os, subprocess, signal\ndef impostor(arguments, variables={{}}):\n    \
             words = [{fake:?}, '-m', '100', *arguments]\n    \
             subprocess.Popen(words, env={{{own}**variables}})\n{lines}\n\
             print('impostors started', flush=True)\nsignal.pause()\n",
            fake = self.fake().display().to_string(),
            own = own.concat(),
        );
        command.arg("-c").arg(script);
        command
    }

    pub fn fake(&self) -> PathBuf {
        self.path("fake/haproxy")
    }
}

/// Gives a file or directory to the user.
fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
}
