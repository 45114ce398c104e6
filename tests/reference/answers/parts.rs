//! The parts that the answers of several commands have in common.

use haproxy_host_exporter::haproxy::lineage::generations::Generation;
use haproxy_host_exporter::haproxy::lineage::proof::Proof;
use haproxy_host_exporter::judge::verdict::StaleState;
use haproxy_host_exporter::model::{Protocol, What};
use haproxy_host_exporter::policy::kind::{Kind, Severity};
use serde_json::{Value, json};

use crate::form::{Key, integer, key, object, one_of, string, time};

pub fn version() -> Key {
    key("version", json!({"const": 1, "type": "integer"}), "Version of this form.")
}

pub fn protocol() -> Value {
    one_of(Protocol::ALL.map(Protocol::as_str))
}

pub fn kinds() -> Value {
    one_of(Kind::ALL.map(Kind::as_str))
}

pub fn states() -> Value {
    one_of(StaleState::ALL.map(StaleState::as_str))
}

pub fn generations() -> Value {
    one_of(Generation::ALL.map(Generation::as_str))
}

pub fn unreadable() -> Value {
    object(vec![
        key("what", one_of(What::ALL.map(What::as_str)), "What could not be read."),
        key("subject", string(), "Of which process, file or namespace."),
        key("reason", string(), "Why not, and which right is missing."),
    ])
}

pub fn superseded() -> Value {
    let proofs = [Proof::Told, Proof::Master, Proof::Pidfile, Proof::Place].map(Proof::as_str);
    object(vec![
        key("by", integer(), "Pid of the process that shows it."),
        key(
            "proof",
            one_of(proofs),
            "What shows it: told and master are certain, pidfile and place are inferred.",
        ),
        key("timestamp", time(), "Since when."),
    ])
}

pub fn connections() -> Value {
    let counts = ["established", "close_wait", "syn_sent", "unix", "other"];
    object(counts.map(|state| key(state, integer(), "Number of connections in this state.")).into())
}

/// Where a port is: the keys that several objects have.
pub fn place(port: Key) -> Vec<Key> {
    vec![
        key("protocol", protocol(), "Protocol."),
        key("address", string(), "IP address; IPv6 without brackets."),
        port,
        key("interface", string(), "Interface that it is bound to; empty if to none."),
        key("netns", string(), "Network namespace; empty for the host's own."),
    ]
}

pub fn severities() -> Value {
    one_of(Severity::ALL.map(Severity::as_str))
}
