//! A HAProxy on the machine that runs as in a container: in a pid, a mount and a network namespace of its own, with a
//! configuration that is nowhere else. Its name on the page is [`NAME`].

use super::machine::Machine;
use super::support::Page;

/// Its unit, from which the page has its name.
pub const NAME: &str = "container";

const UNIT: &str = "\
[Service]
TemporaryFileSystem=/srv
BindReadOnlyPaths=/etc/edge/container.cfg:/srv/haproxy.cfg
PrivateNetwork=yes
ExecStart=/usr/bin/unshare --mount --pid --fork --kill-child --mount-proc \
    /usr/sbin/haproxy -W -f /srv/haproxy.cfg
";

/// It listens by TCP and by UDP.
const CONFIGURATION: &str = "defaults\n    mode http\n    timeout connect 5s\n    timeout client 1h\n    \
     timeout server 1h\nfrontend web\n    bind :8082\n    http-request return status 200\n\
     log-forward syslog\n    dgram-bind :5514\n    log 127.0.0.1:5515 local0\n";

/// Starts it; [`stop`] ends it.
pub fn start(machine: &Machine) {
    machine.write("/etc/edge/container.cfg", CONFIGURATION);
    machine.write("/etc/systemd/system/container.service", UNIT);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", NAME]);
}

/// Stops it and removes what [`start`] wrote.
pub fn stop(machine: &Machine) {
    machine.systemctl(&["stop", NAME]);
    machine.shell("rm /etc/edge/container.cfg /etc/systemd/system/container.service");
    machine.systemctl(&["daemon-reload"]);
}

/// How many ports of it the page shows.
pub fn ports(page: &Page, protocol: &str) -> f64 {
    page.sum("haproxy_host_bound_ports", &[("haproxy", NAME), ("protocol", protocol)])
}

/// Whether its network namespace is the only thing that the exporter could not read.
pub fn is_not_entered(page: &Page) -> bool {
    page.is("haproxy_host_unreadable", &[("what", "namespace")], 1.0)
        && page.sum("haproxy_host_unreadable", &[]) == 1.0
}
