//! What an exporter says, as `/state.json` or `inspect --output json` prints it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One answer of an exporter.
#[derive(Debug, Default)]
pub struct View {
    /// When the sample was taken, in Unix seconds.
    pub taken: f64,
    pub services: BTreeMap<String, Seen>,
    pub processes: BTreeMap<i32, SeenProcess>,
    pub unreadable: Vec<String>,
}

/// A service in a view.
#[derive(Debug, Default)]
pub struct Seen {
    pub up: bool,
    pub pids: BTreeSet<i32>,
    /// Its anomalies by kind, the firing ones before the pending ones.
    pub anomalies: BTreeMap<String, Raised>,
}

/// An anomaly in a view.
#[derive(Debug, Clone)]
pub struct Raised {
    pub pending: bool,
    pub evidence: String,
    /// The ports of all that fire, or of all that are pending while none does.
    pub ports: BTreeSet<u16>,
}

/// A process in a view.
#[derive(Debug)]
pub struct SeenProcess {
    pub service: String,
    pub role: String,
    pub generation: String,
    pub state: String,
    /// How it is known to be superseded.
    pub proof: String,
}

impl View {
    pub fn read(json: &Value) -> Self {
        super::schema::assert_fits("inspect", json);
        let taken = json["taken_timestamp"].as_f64().unwrap_or_default();
        let mut view = Self { taken, ..Self::default() };
        for haproxy in list(json, "haproxys") {
            let name = text(haproxy, "name");
            let mut seen = Seen { up: haproxy["up"] == true, ..Seen::default() };
            for process in list(haproxy, "processes") {
                let pid = i32::try_from(process["pid"].as_i64().unwrap()).unwrap();
                seen.pids.insert(pid);
                let state = SeenProcess {
                    service: name.clone(),
                    role: text(process, "role"),
                    generation: text(process, "generation"),
                    state: text(process, "state"),
                    proof: text(&process["superseded"], "proof"),
                };
                view.processes.insert(pid, state);
            }
            for anomaly in list(haproxy, "anomalies") {
                let pending = anomaly["pending"] == true;
                let port = anomaly["port"].as_u64().map(|port| u16::try_from(port).unwrap());
                let ports = port.into_iter().collect();
                let evidence = anomaly["evidence"].to_string();
                let raised = Raised { pending, evidence, ports };
                let known = seen.anomalies.entry(text(anomaly, "kind")).or_insert(raised.clone());
                if known.pending && !pending {
                    *known = raised;
                } else if known.pending == pending {
                    known.ports.extend(raised.ports);
                }
            }
            view.services.insert(name, seen);
        }
        view.unreadable = list(json, "unreadable").iter().map(Value::to_string).collect();
        view
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
