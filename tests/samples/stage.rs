//! A host with the paths that people use, independent of the name of the test's directory.

use super::sample;
use super::support::{Bed, Manner, Service, Version};

/// Where the service has its files, as the bed sees them.
const HOME: &str = "/srv/lbagent";

/// A service that the exporter knows as lbagent.
pub fn lbagent(bed: &Bed, manner: Manner) -> Service<'_> {
    let mut service = Service::named(bed, Version::V3_0, manner, "lb");
    let directory = service.path("").display().to_string();
    bed.shell(&format!(
        "mount -t tmpfs srv /srv && mkdir {HOME} && mount --bind {directory} {HOME}"
    ));
    let (pidfile, file) = (format!("{HOME}/haproxy.pid"), format!("{HOME}/haproxy.cfg"));
    service.arguments = ["-p", &pidfile, "-f", &file].map(str::to_owned).to_vec();
    sample::number_pids(bed);
    service
}

/// Copies the executable to where a package would have it, among the files of the service.
pub fn with_own_binary<'b>(bed: &'b Bed, mut service: Service<'b>) -> Service<'b> {
    let own = format!("{HOME}/sbin/haproxy");
    bed.shell(&format!("mkdir {HOME}/sbin && cp {} {own}", service.binary.display()));
    service.binary = own.into();
    service
}

/// Makes the configuration an hour old, so that it does not count as edited since the start.
pub fn age_the_file(bed: &Bed) {
    bed.shell(&format!("touch -d '1 hour ago' {HOME}/haproxy.cfg"));
}

/// What `inspect` says of a kind now, with rules of its own among the defaults.
pub fn sample(bed: &Bed, kind: &str, rules: &str) -> String {
    let configuration = format!(
        "defaults: {{stale_grace: 1s, reload_grace: 1s{rules}}}\n\
         haproxys: [{{name: lbagent, match: {{pidfile: {HOME}/haproxy.pid}}}}]\n"
    );
    sample::take(bed, kind, &configuration)
}
