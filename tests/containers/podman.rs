//! podman in a bed, with an image store of its own, the image of the exporter, and one that stands in for the image
//! of HAProxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::support::{Bed, Exporter, PATIENCE, Page, fetch, installed, text, tool};

/// The image, called as the manifests call it.
pub const NAME: &str = concat!("localhost/haproxy-host-exporter:", env!("CARGO_PKG_VERSION"));
pub const RIGHTS: [&str; 2] = ["--cap-add=SYS_PTRACE", "--cap-add=DAC_READ_SEARCH"];
/// What the image's program is built for, as the Containerfile builds it.
const RELEASED: &str = "x86_64-unknown-linux-musl";
/// The same with the C library of this machine, where Rust came without rustup and has no other target.
const SUBSTITUTE: &str = "x86_64-unknown-linux-gnu";

/// Of a machine that limits its root as containers limit theirs; and no file of the machine is read or written.
const SETTINGS: &str = r#"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "PLACE/libpod"
[network]
network_config_dir = "PLACE/networks"
"#;
const STORAGE: &str = r#"
[storage]
driver = "vfs"
graphroot = "PLACE/storage"
runroot = "PLACE/run"
"#;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The released program, where the test is told of one: `tests/containers/run` links it, which takes minutes.
pub fn released() -> Option<PathBuf> {
    std::env::var_os("IMAGE_BINARY").map(PathBuf::from)
}

/// The static program of the image: the released one, or else the same code linked quickly.
pub fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| released().unwrap_or_else(link_quickly))
}

fn link_quickly() -> PathBuf {
    let mut rustc = Command::new("rustc");
    let rustc = rustc.args(["--print", "target-libdir", "--target", RELEASED]);
    let has_library = Path::new(text(&succeed(rustc).stdout).trim()).is_dir();
    let target = if has_library { RELEASED } else { SUBSTITUTE };
    let directory = Exporter::binary().parent().unwrap().join("../image");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--bin", "haproxy-host-exporter", "--target", target]);
    cargo.arg("--target-dir").arg(&directory).current_dir(root());
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CC_x86_64_unknown_linux_musl", tool("musl-gcc"));
    if target == SUBSTITUTE {
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    }
    succeed(&mut cargo);
    directory.join(target).join("debug/haproxy-host-exporter").canonicalize().unwrap()
}

/// podman in a bed.
pub struct Podman<'b> {
    bed: &'b Bed,
}

impl<'b> Podman<'b> {
    /// Builds the image.
    pub fn new(bed: &'b Bed) -> Self {
        let podman = Self { bed };
        let place = bed.directory().display().to_string();
        bed.write("containers.conf", &SETTINGS.replace("PLACE", &place));
        bed.write("storage.conf", &STORAGE.replace("PLACE", &place));
        // What containers keep below /run, the state of the reaper too, is the bed's.
        bed.shell("mount -t tmpfs -o mode=755 run /run");
        let place = bed.directory().join("build");
        let to = place.join("image/haproxy-host-exporter");
        let mut install = Command::new(tool("install"));
        succeed(install.args(["-D", "-s", "-m", "755"]).arg(binary()).arg(to));
        let containerfile =
            fs::read_to_string(root().join("deploy/container/Containerfile")).unwrap();
        for command in
            ["cargo build --release --locked --bin haproxy-host-exporter", "install -D -s -m 755"]
        {
            assert!(containerfile.contains(command), "{command}");
        }
        let (_, last) = containerfile.rsplit_once("\nFROM ").unwrap();
        podman.build(NAME, &format!("FROM {last}"), &place);
        podman
    }

    fn build(&self, name: &str, containerfile: &str, context: &Path) {
        let file = self.bed.write("Containerfile", containerfile);
        let mut command = self.program("buildah");
        command.args(["bud", "--format=docker", "-t", name, "--isolation=chroot"]);
        command.arg(format!("--build-context=build={}", context.display()));
        succeed(command.arg("-f").arg(file).arg(context));
    }

    /// Makes an image with HAProxy and its libraries, and with a first process that only reaps. It has the names
    /// of these images, which no registry is asked for.
    pub fn stand_in_for(&self, names: &[&str]) {
        let place = self.bed.directory().join("build/stand-in");
        fs::create_dir_all(&place).unwrap();
        self.bed.shell(&format!(
            "cp -a {}/. {place} && cp $(command -v catatonit) {place}/usr/bin && chmod 1777 {place}/tmp",
            installed("haproxy/3.0/root").display(),
            place = place.display(),
        ));
        let containerfile =
            "FROM scratch\nCOPY --from=build . /\nENTRYPOINT [\"/usr/bin/catatonit\", \"-P\"]\n";
        self.build(names[0], containerfile, &place);
        for name in &names[1..] {
            self.run(&["tag", names[0], name]);
        }
    }

    fn program(&self, name: &str) -> Command {
        // The directory that a bed's command starts in has no name in the bed's mounts, and podman asks for one.
        let mut command = self.bed.command("env");
        command.arg("-C").arg(self.bed.directory()).arg(tool(name));
        self.environment().iter().for_each(|(name, value)| {
            command.env(name, value);
        });
        command
    }

    /// What tells podman where everything is.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let place = |name: &str| self.bed.directory().join(name).display().to_string();
        [
            ("CONTAINERS_CONF", place("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", place("storage.conf")),
            // There is no systemd in a bed that could run health checks.
            ("DISABLE_HC_SYSTEMD", "true".to_owned()),
        ]
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program("podman");
        command.args(arguments);
        command
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        text(&succeed(&mut self.command(arguments)).stdout)
    }

    /// Starts a container of the image with these flags.
    #[track_caller]
    pub fn start(&self, name: &str, flags: &[&str], arguments: &[&str]) {
        self.run(&[&["run", "-d", "--name", name][..], flags, &[NAME], arguments].concat());
    }

    /// The pid of a container's first process. podman runs in the bed's pid namespace, and so does what it names.
    #[track_caller]
    pub fn pid_of(&self, name: &str) -> i32 {
        let pid = self.run(&["inspect", "--format", "{{.State.Pid}}", name]);
        pid.trim().parse().unwrap()
    }

    pub fn logs(&self, name: &str) -> String {
        let output = self.command(&["logs", name]).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    }

    fn all_logs(&self) -> String {
        let names = self.run(&["ps", "-a", "--format", "{{.Names}}"]);
        let logs = names.lines().map(|name| format!("log of {name}:\n{}", self.logs(name)));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// Removes a container, and gives what it had printed.
    pub fn remove(&self, name: &str) -> String {
        let logs = self.logs(name);
        self.run(&["rm", "-f", "-t", "10", name]);
        logs
    }

    /// The page of a container that shares the bed's network.
    #[track_caller]
    pub fn await_page(&self, name: &str, what: &str, condition: impl Fn(&Page) -> bool) -> Page {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.bed.inside(|| fetch("127.0.0.1:10101", "/metrics"));
            let page = page.and_then(|page| Page::parse(&page).ok());
            if let Some(page) = page.as_ref().filter(|page| condition(page)) {
                return page.clone();
            }
            assert!(
                Instant::now() < deadline,
                "{name}: no page with {what}; the last one:\n{}\n{}",
                page.unwrap_or_default().brief(),
                self.all_logs()
            );
            std::thread::sleep(Duration::from_millis(40));
        }
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // Its containers have cgroups and mounts that outlive the bed's processes.
        let _ = self.command(&["pod", "rm", "-a", "-f", "-t", "0"]).output();
        let _ = self.command(&["rm", "-a", "-f", "-t", "0"]).output();
        self.bed.shell("umount -R -l storage run 2>/dev/null || true");
    }
}

#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    output
}
