//! Hosts on which the commands of the pages are run.

use std::fs;
use std::path::PathBuf;

use super::support::*;

/// A host with a HAProxy called lbagent, and with the places that the pages name.
pub struct Host {
    pub bed: Bed,
}

impl Host {
    pub fn new() -> Self {
        let bed = Bed::new();
        let etc = bed.directory().join("etc");
        let [programs, new] = ["programs", "new/usr/sbin"].map(|name| bed.directory().join(name));
        for folder in [&programs, &new] {
            fs::create_dir_all(folder).unwrap();
        }
        let link = |to: PathBuf, at: PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
        link(Exporter::binary(), programs.join("haproxy-host-exporter"));
        copy_program(Version::V3_0.binary(), programs.join("haproxy"));
        copy_program(Version::V3_2.binary(), new.join("haproxy"));
        bed.shell(&format!(
            "cp -a /etc {etc} && mount --bind {etc} /etc && rm -rf /etc/haproxy && mkdir /etc/haproxy
             mkdir -p /etc/haproxy-host-exporter && mount -t tmpfs -o mode=755 run /run",
            etc = etc.display()
        ));
        bed.shell(
            "mkdir -p /run/backups /run/textfiles && cat >/etc/haproxy-host-exporter/config.yaml <<END
defaults: {stale_grace: 1s, reap: {listening: 1s}}
haproxys: [{name: lbagent, match: {pidfile: /run/haproxy.pid}}]
backup: {directory: /run/backups}
END
             ip address add 169.254.0.107/32 dev lo",
        );
        // The policy that a page copies there, for the pidfile of this host and without its patience.
        let policy = fs::read_to_string(super::root().join("deploy/policy/lbagent.yaml")).unwrap();
        let own = [
            ("/opt/cloud/workspace/lbagent/run/haproxy.pid", "/run/haproxy.pid"),
            ("listening: 30s", "listening: 1s"),
        ];
        let policy = own.into_iter().fold(policy, |policy, (shipped, here)| {
            assert!(policy.contains(shipped), "{policy}");
            policy.replace(shipped, here)
        });
        let policy = bed.write("lbagent.yaml", &policy);
        bed.shell(&format!("cp {} /etc/haproxy-host-exporter/", policy.display()));
        Self { bed }
    }

    /// It serves what its configuration declares.
    pub fn healthy() -> Self {
        let host = Self::new();
        host.configure("20000");
        assert_eq!(host.shell("haproxy -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg").0, 0);
        host
    }

    /// A reload has left a process behind, and its port is to be given to another listener.
    pub fn broken() -> Self {
        let host = Self::healthy();
        host.configure("20001");
        let reload = "haproxy -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg -sf 99999";
        assert_eq!(host.shell(reload).0, 0);
        // What is edited in the moment of a start may have been loaded by it.
        await_true("the reload to be a while ago", || {
            host.shell("[ -z \"$(find /run/haproxy.pid -newermt '2 seconds ago')\" ]").0 == 0
        });
        host.configure("20000");
        await_true("the blocked port", || {
            let (_, said) = host.shell("haproxy-host-exporter inspect --haproxy lbagent");
            said.contains("CRITICAL port_blocked")
        });
        host
    }

    /// It serves a configuration with a keyword that HAProxy `new/usr/sbin/haproxy` refuses.
    pub fn before_an_upgrade() -> Self {
        let host = Self::new();
        let haproxy = host.bed.directory().join("programs/haproxy");
        fs::remove_file(&haproxy).unwrap();
        copy_program(Version::V2_6.binary(), haproxy);
        host.configure("20000");
        host.bed.shell("echo '    bind-process 1' >>/etc/haproxy/haproxy.cfg");
        assert_eq!(host.shell("haproxy -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg").0, 0);
        host
    }

    fn configure(&self, port: &str) {
        self.bed.shell(&format!(
            "cat >/etc/haproxy/haproxy.cfg <<END
global
    noreuseport
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen one
    bind 127.0.0.1:{port}
    server none 127.0.0.1:9
END
             cp /etc/haproxy/haproxy.cfg /etc/haproxy/new.cfg"
        ));
    }

    /// The exporter, ready to answer.
    pub fn serve(&self) -> Running {
        let folder = self.bed.directory();
        let mut command = self.bed.command(folder.join("programs/haproxy-host-exporter"));
        command.env("HAPROXY_HOST_EXPORTER_CONFIG_FILE", "/etc/haproxy-host-exporter/config.yaml");
        let exporter = self.bed.start(command, "exporter.log");
        await_true("the exporter to be ready", || {
            self.shell("curl -sf localhost:10101/-/ready").0 == 0
        });
        exporter
    }

    /// Runs a command as root would at a prompt; gives its exit code and what it said.
    pub fn shell(&self, command: &str) -> (i32, String) {
        let folder = self.bed.directory();
        let path = format!("{}/programs:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
        let output = self
            .bed
            .command("sh")
            .args(["-c", &command.replace("/var/lib/prometheus/node-exporter", "/run/textfiles")])
            .env("PATH", path)
            .env("HAPROXY_HOST_EXPORTER_CONFIG_FILE", "/etc/haproxy-host-exporter/config.yaml")
            .env("new", "/etc/haproxy/new.cfg")
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap_or(-1), said)
    }
}
