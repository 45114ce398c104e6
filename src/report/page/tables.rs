//! The tables of processes and ports of a service, on the page for a person.

use maud::{Markup, html};

use super::times::ago;
use crate::judge::verdict::{Port, ProcessView};
use crate::report::ranges::ranges_by;
use crate::report::text::{by_state, list, more};

/// The longest table of ports that a person would read.
const MAX_PORT_ROWS: usize = 500;

/// Renders the processes of a service.
pub fn processes(processes: &[ProcessView], now: f64) -> Markup {
    html! {
        h3 { "Processes" }
        @if processes.is_empty() {
            p { "None: it is gone." }
        } @else {
            div.wide role="region" aria-label="Processes" tabindex="0" {
                table {
                    thead {
                        tr {
                            th.number scope="col" { "pid" }
                            th scope="col" { "role" }
                            th scope="col" { "generation" }
                            th scope="col" { "age" }
                            th scope="col" { "stale for" }
                            th scope="col" { "connections" }
                            th.number scope="col" { "descriptors" }
                            th.number scope="col" { "memory" }
                        }
                    }
                    tbody {
                        @for process in processes { (process_row(process, now)) }
                    }
                }
            }
        }
    }
}

fn process_row(process: &ProcessView, now: f64) -> Markup {
    html! {
        tr {
            td.number { (process.id.pid) }
            td { (process.role.as_str()) }
            td {
                (process.generation.as_str())
                @if let Some(state) = process.state { ", " (state.as_str()) }
            }
            td { (ago(process.started, now)) }
            td { @if let Some(how) = process.superseded { (ago(how.since, now)) } }
            td { @if let Some(counts) = &process.connections { (by_state(counts, "none")) } }
            td.number {
                @if let Some(open) = process.open_fds {
                    (open)
                    @if let Some(max) = process.max_fds { " of " (max) }
                }
            }
            td.number {
                @if let Some(bytes) = process.anonymous_memory_bytes { (bytes >> 20) " MiB" }
            }
        }
    }
}

/// Renders the ports of a service.
pub fn ports(ports: &[Port]) -> Markup {
    let rows = ranges_by(ports.iter().map(|port| (&port.key, (port.generation, &port.pids))));
    html! {
        h3 { "Ports" }
        @if rows.is_empty() {
            p { "None." }
        } @else {
            div.wide role="region" aria-label="Ports" tabindex="0" {
                table {
                    thead {
                        tr {
                            th scope="col" { "listens on" }
                            th scope="col" { "generation" }
                            th scope="col" { "pids" }
                        }
                    }
                    tbody {
                        @for row in rows.iter().take(MAX_PORT_ROWS) {
                            tr {
                                td { (row.to_string()) }
                                td { (row.common.0.as_str()) }
                                td { (list(row.common.1, " ")) }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(more) = more(rows.len(), MAX_PORT_ROWS, "rows; inspect lists them all") {
            p { (more) }
        }
    }
}
