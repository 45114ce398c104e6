//! Does with HAProxy what Cloudpods' lbagent does, its flaws included.

use std::fs;
use std::path::PathBuf;

use crate::support::*;

/// How many old folders of configuration lbagent keeps.
const KEPT_FOLDERS: usize = 8;

/// An agent, and the HAProxy that it runs.
pub struct Agent<'b> {
    bed: &'b Bed,
    pub service: Service<'b>,
    written: usize,
}

impl<'b> Agent<'b> {
    pub fn new(bed: &'b Bed, version: Version) -> Self {
        let mut service = Service::named(bed, version, Manner::DaemonTransfer, "lbagent");
        let link = service.path("haproxy").display().to_string();
        let pidfile = service.pidfile().display().to_string();
        service.arguments = ["-p", &pidfile, "-C", &link, "-f", &link].map(str::to_owned).to_vec();
        Self { bed, service, written: 0 }
    }

    /// The link to the folder of the configuration.
    pub fn link(&self) -> PathBuf {
        self.service.path("haproxy")
    }

    /// One change of listeners. Whether a HAProxy was started for it.
    ///
    /// The link leads to the new configuration before the reload, and stays there when the reload fails;
    /// no `haproxy -c` is run. After a failure the agent ends the process that the pidfile names and no
    /// other: SIGTERM, and SIGKILL at once, because its wait between the two never waits. It then starts
    /// HAProxy without `-sf` and `-x`.
    pub fn apply(&mut self, proxies: &str) -> bool {
        self.write(proxies);
        let old = self.named_by_the_pidfile();
        let reload = old.map(|pid| self.service.launch(&["-sf", &pid.to_string()]));
        if reload.is_some_and(|output| output.status.success()) {
            return true;
        }
        if let Some(pid) = old {
            self.bed.shell(&format!("kill -TERM {pid}; kill -KILL {pid} 2>/dev/null; true"));
            await_true("the end of the process that was killed", || !self.bed.is_alive(pid));
        }
        let log = fs::File::create(self.service.path("start.log")).unwrap();
        let mut command = self.service.command();
        command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap().success()
    }

    /// The process that the pidfile names, if a process of that pid is called `haproxy`: the agent asks
    /// for nothing more.
    fn named_by_the_pidfile(&self) -> Option<i32> {
        let pid = self.service.daemon()?;
        (self.bed.process_file(pid, "comm")?.trim_end() == "haproxy").then_some(pid)
    }

    /// Writes the configuration into a folder of its own and switches the link to it.
    fn write(&mut self, proxies: &str) {
        self.written += 1;
        let folder = |number| self.service.path(&format!("configs-{number:04}"));
        let new = folder(self.written);
        fs::create_dir(&new).unwrap();
        let text = format!(
            "global\n    stats socket {} mode 600 level admin expose-fd listeners\n\
             defaults\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n{proxies}\n",
            self.service.path("admin.sock").display()
        );
        fs::write(new.join("00-lb.cfg"), text).unwrap();
        let beside = self.service.path("haproxy.new");
        std::os::unix::fs::symlink(&new, &beside).unwrap();
        fs::rename(&beside, self.link()).unwrap();
        if let Some(oldest) = self.written.checked_sub(KEPT_FOLDERS + 1) {
            let _ = fs::remove_dir_all(folder(oldest));
        }
    }
}
