//! What a reload would change, for people and programs.

use serde_json::{Value, json};

use super::ranges::port_ranges;
use super::text::{counted, printable};
use crate::check::changes::{BoundPort, Changes, Executable};
use crate::judge::verdict::PortKey;

/// One line for each thing that changes, such as `drops tcp 443`.
pub(super) fn lines(changes: &Changes) -> Vec<String> {
    let mut lines = Vec::new();
    match &changes.ports {
        Some(ports) => {
            lines.extend(ranges(&ports.added).into_iter().map(|ports| format!("adds {ports}")));
            lines.extend(ranges(&ports.dropped).into_iter().map(|ports| format!("drops {ports}")));
            lines.push(format!("keeps {}", counted(ports.kept, "port", "ports")));
        }
        None => lines.push(
            "what its reload adds and drops is not known, because the listeners of the running \
             generation could not be seen"
                .to_owned(),
        ),
    }
    if let Some(Executable::OtherBranch { running, next }) = &changes.executable {
        let (running, next) = (printable(running), printable(next));
        lines.push(format!("restart, not reload: {running} runs, and {next} is on disk"));
    }
    lines
}

/// Ports as `tcp 443, 8000-8010`. All addresses of IPv4 go without saying, as in a bind line.
fn ranges(ports: &[BoundPort]) -> Vec<String> {
    let keys: Vec<PortKey> = ports
        .iter()
        .map(|port| PortKey {
            protocol: port.protocol,
            address: port.address,
            port: port.port,
            interface: port.interface.as_str().into(),
            netns: port.netns.as_str().into(),
        })
        .collect();
    let ranges = port_ranges(&keys);
    ranges.iter().map(|ports| ports.shortened().replacen(" 0.0.0.0 ", " ", 1)).collect()
}

/// The changes as an object; `null` means that something is not known.
pub(super) fn json(changes: &Changes) -> Value {
    let ports = changes.ports.as_ref();
    let list = |ports: &[BoundPort]| ports.iter().map(port).collect::<Vec<_>>();
    let (running, next) = match &changes.executable {
        Some(Executable::OtherBranch { running, next }) => (Some(running), Some(next)),
        Some(Executable::SameBranch) | None => (None, None),
    };
    json!({
        "added": ports.map(|ports| list(&ports.added)),
        "dropped": ports.map(|ports| list(&ports.dropped)),
        "kept": ports.map(|ports| ports.kept),
        "restart": changes.executable.as_ref().map(|next| *next != Executable::SameBranch),
        "running_version": running,
        "next_version": next,
    })
}

fn port(port: &BoundPort) -> Value {
    json!({
        "protocol": port.protocol.as_str(),
        "address": port.address.to_string(),
        "port": port.port,
        "interface": port.interface,
        "netns": port.netns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::changes::PortChanges;
    use crate::model::Protocol;

    fn bound(address: &str, ports: impl IntoIterator<Item = u16>) -> Vec<BoundPort> {
        let ports = ports.into_iter().map(|port| BoundPort {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            port,
            interface: String::new(),
            netns: String::new(),
        });
        ports.collect()
    }

    #[test]
    fn each_change_is_a_short_line() {
        let ports = PortChanges {
            added: [bound("0.0.0.0", 8000..=8010), bound("::1", [8000])].concat(),
            dropped: bound("0.0.0.0", [443]),
            kept: 1,
        };
        let executable = Some(Executable::OtherBranch {
            running: "2.6.12".to_owned(),
            next: "3.0.11".to_owned(),
        });
        let changes = Changes { ports: Some(ports), executable };
        let expected = [
            "adds tcp 8000-8010",
            "adds tcp ::1 8000",
            "drops tcp 443",
            "keeps 1 port",
            "restart, not reload: 2.6.12 runs, and 3.0.11 is on disk",
        ];
        assert_eq!(lines(&changes), expected);
        let answer = json(&changes);
        assert_eq!(
            (&answer["restart"], &answer["dropped"][0]["port"]),
            (&true.into(), &443.into())
        );
    }

    #[test]
    fn what_is_not_known_is_null() {
        let answer = json(&Changes::default());
        assert_eq!((&answer["added"], &answer["restart"]), (&Value::Null, &Value::Null));
        assert!(lines(&Changes::default())[0].contains("not known"));
    }
}
