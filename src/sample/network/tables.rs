//! Reads the network namespaces of a sample: their listeners and their ephemeral ports.

use std::io;

use super::namespaces::{EntryError, Network, Networks, subject_of};
use super::uses::{NamespacePaths, may_listen_in};
use crate::model::{NamespaceId, NetworkNamespace, Snapshot, Unreadable, What};
use crate::sample::discovery::processes::Found;

/// Reads every namespace in which HAProxy processes live or may listen, and the exporter's own.
/// Returns whether every table could be read.
pub fn read(
    networks: &mut Networks,
    mut paths: NamespacePaths,
    found: &mut [Found],
    snapshot: &mut Snapshot,
) -> bool {
    if let Some(own) = networks.own() {
        paths.entry(own).or_default();
    }
    networks.retain(|id| paths.contains_key(&id));
    let mut success = true;
    for (id, paths) in paths {
        match networks.open(id, &paths) {
            Ok(network) => success &= read_network(id, network, snapshot),
            Err(error) => leave_out(id, error, found, snapshot),
        }
    }
    snapshot.gaps.note_tables(&snapshot.networks);
    success
}

/// Leaves out a namespace that could not be entered. That is a gap, unless no HAProxy can listen
/// there because it only connects to servers in it.
fn leave_out(id: NamespaceId, error: EntryError, found: &mut [Found], snapshot: &mut Snapshot) {
    if found.iter().any(|found| may_listen_in(&found.process, id)) {
        snapshot.gaps.unread.insert(id);
        if let EntryError::Refused(entry) = error {
            snapshot.unreadable.push(entry);
        }
        return;
    }
    for found in found {
        if let Some(held) = &mut found.process.other_networks.held {
            held.remove(&id);
        }
    }
}

fn read_network(id: NamespaceId, network: &mut Network, snapshot: &mut Snapshot) -> bool {
    let mut values = NetworkNamespace { label: network.label.clone(), ..Default::default() };
    if let Some(ports) = network.ephemeral() {
        values.ephemeral = Some(ports.range);
        values.reserved = ports.reserved;
    }
    snapshot.unreadable.extend(network.handicap.clone());
    let (bound, unix) = (network.table.bound(), network.table.unix_listeners());
    for error in bound.as_ref().err().into_iter().chain(unix.as_ref().err()) {
        snapshot.unreadable.push(table_unreadable(network, error));
    }
    let success = bound.is_ok() && unix.is_ok();
    (values.bound, values.unix_listeners) = (bound.ok(), unix.ok());
    snapshot.networks.insert(id, values);
    success
}

/// The entry for a socket table that could not be read.
pub(in crate::sample) fn table_unreadable(network: &Network, error: &io::Error) -> Unreadable {
    let (subject, reason) = (subject_of(&network.label), error.to_string());
    Unreadable { what: What::Sockets, subject, reason }
}
