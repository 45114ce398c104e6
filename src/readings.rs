//! For unit tests: short texts of what a verdict says.

use crate::judge::verdict::{Anomaly, ServiceVerdict, Verdict};
use crate::policy::kind::Kind;
use crate::stage::{Actor, Film};

impl Film {
    /// The anomalies of one kind that fire once every grace is over, for the service of that name.
    pub fn found(mut self, name: &str, kind: Kind, actors: &[Actor]) -> Vec<String> {
        let verdict = self.settle(1000.0, actors);
        let service = verdict.services.iter().find(|service| service.name == name).unwrap();
        let mut found = service.findings();
        found.retain(|finding| finding.starts_with(kind.as_str()));
        found
    }
}

impl Verdict {
    pub fn one(&self) -> &ServiceVerdict {
        let [service] = self.services.as_slice() else { panic!("{:#?}", self.services) };
        service
    }

    /// What each service is cast of, in the order of these texts.
    pub fn casts(&self) -> Vec<String> {
        let mut casts: Vec<String> = self.services.iter().map(ServiceVerdict::cast).collect();
        casts.sort();
        casts
    }
}

impl ServiceVerdict {
    /// The generation of each process, oldest first: `10 stale, 11 current`.
    pub fn cast(&self) -> String {
        let view = |p: &crate::judge::verdict::ProcessView| {
            format!("{} {}", p.id.pid, p.generation.as_str())
        };
        self.processes.iter().map(view).collect::<Vec<_>>().join(", ")
    }

    /// The firing anomalies: `port_split tcp 80 haproxy stale`, `port_missing tcp 80@blue`.
    pub fn findings(&self) -> Vec<String> {
        let text = |anomaly: &Anomaly| {
            let port = anomaly.subject.port.as_ref();
            let netns = port.map(|key| &*key.netns).filter(|netns| !netns.is_empty());
            let netns = netns.map(|netns| format!("@{netns}")).unwrap_or_default();
            let port = port.map(|key| format!(" {} {}{netns}", key.protocol, key.port));
            let port = port.unwrap_or_default();
            let holder = &anomaly.subject.holder;
            let holder = if holder.is_empty() { String::new() } else { format!(" {holder}") };
            format!("{}{port}{holder}", anomaly.kind.as_str())
        };
        self.anomalies.iter().filter(|anomaly| !anomaly.pending).map(text).collect()
    }

    pub fn judged(&self, kind: Kind) -> bool {
        self.judged.contains(&kind)
    }
}
