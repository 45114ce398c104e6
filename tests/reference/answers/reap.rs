//! What `reap` answers, and what it records of its signals.

use haproxy_host_exporter::policy::reap::StopSignal;
use haproxy_host_exporter::reap::effect::Effect;
use serde_json::Value;

use super::parts::{connections, states, superseded, unreadable, version};
use crate::form::{
    boolean, integer, key, list, nullable, number, object, one_of, part, schema, sometimes, string,
    time,
};

fn signals() -> Value {
    one_of(StopSignal::ALL.map(StopSignal::as_str))
}

pub fn reap() -> Value {
    let step = object(vec![
        key("pid", integer(), "Pid."),
        key("signal", signals(), "The signal that is due."),
        key("state", states(), "Why the process is still there."),
        key("reason", string(), "Why it is due."),
        key("superseded", nullable(part("superseded")), "How it was superseded."),
        key("ports", list(string()), "Ports that it holds."),
        key("connections", nullable(part("connections")), "Its connections."),
        key("peers", nullable(integer()), "Number of remote addresses."),
        key("least_age_seconds", nullable(number()), "Every connection is at least this old."),
        key("ends_itself", nullable(string()), "When HAProxy would end it by itself."),
        sometimes("result", one_of(Effect::ALL.map(Effect::as_str)), "What came of the signal."),
        sometimes("hold", string(), "Why the signal was not sent after all."),
        sometimes("released", list(string()), "Ports that the process released."),
        sometimes(
            "given_back",
            list(part("given_back")),
            "Released ports that no process of the service holds any more.",
        ),
        sometimes(
            "connections_left",
            nullable(part("connections")),
            "The connections that are left.",
        ),
    ]);
    let given_back = object(vec![
        key("port", string(), "The port."),
        key("bindable", nullable(boolean()), "Whether it can be bound now."),
    ]);
    let held = object(vec![
        key("pid", integer(), "Pid."),
        key("state", states(), "Why the process is still there."),
        key("signal", nullable(signals()), "The signal that would be due."),
        key("reason", string(), "Why it would be due."),
        key("hold", string(), "What holds it back, as one word."),
        key("because", string(), "What holds it back, in words."),
    ]);
    let waiting = object(vec![
        key("pid", integer(), "Pid."),
        key("state", states(), "Why the process is still there."),
        key("reason", string(), "Why it is left to finish."),
    ]);
    let zombie = object(vec![
        key("pid", integer(), "Pid."),
        key("parent", integer(), "Pid of the parent that has to remove it."),
    ]);
    let service = object(vec![
        key("name", string(), "Name of the service."),
        key(
            "steps",
            list(part("step")),
            "The signals that are due, and with --execute what came of them.",
        ),
        key("held", list(part("held")), "Processes that are due and held back."),
        key("waiting", list(part("waiting")), "Processes that may finish."),
        key("zombies", list(part("zombie")), "Dead processes."),
    ]);
    let root = object(vec![
        version(),
        key("executed", boolean(), "Whether signals were sent."),
        key("haproxys", list(part("haproxy")), "The services that were looked at."),
        key("unreadable", list(part("unreadable")), "What could not be read."),
    ]);
    schema(
        "reap",
        "What `reap --output json` prints.",
        root,
        vec![
            ("haproxy", service),
            ("step", step),
            ("superseded", superseded()),
            ("connections", connections()),
            ("given_back", given_back),
            ("held", held),
            ("waiting", waiting),
            ("zombie", zombie),
            ("unreadable", unreadable()),
        ],
    )
}

pub fn audit() -> Value {
    let root = object(vec![
        key("event", one_of(["intent", "outcome"]), "Before the signal, or after it."),
        key("timestamp", time(), "When the line was written."),
        key("haproxy", string(), "Name of the service."),
        key("pid", integer(), "Pid."),
        key(
            "start_ticks",
            integer(),
            "Start time in clock ticks since boot, as in /proc/PID/stat.",
        ),
        key("signal", signals(), "The signal."),
        sometimes("state", states(), "Intent: why the process is still there."),
        sometimes("reason", string(), "Why the signal is due, or why it could not be sent."),
        sometimes("superseded", nullable(part("superseded")), "Intent: how it was superseded."),
        sometimes("ports", list(string()), "Intent: ports that it holds."),
        sometimes(
            "connections",
            nullable(part("connections")),
            "Its connections; in an outcome those that are left.",
        ),
        sometimes("peers", nullable(integer()), "Intent: number of remote addresses."),
        sometimes("result", one_of(Effect::ALL.map(Effect::as_str)), "Outcome: what came of it."),
        sometimes("released", list(string()), "Outcome: ports that the process released."),
        sometimes(
            "given_back",
            list(string()),
            "Outcome: released ports that no process of the service holds any more.",
        ),
    ]);
    schema(
        "reap --audit-log",
        "One line of the file of `reap --audit-log`, which is JSON without `--output json`, too.",
        root,
        vec![("superseded", superseded()), ("connections", connections())],
    )
}
