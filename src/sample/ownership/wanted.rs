//! The wanted sockets: all that may be listeners of HAProxy, by whichever process they are held.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::haproxy::listeners;
use crate::model::{Configuration, NamespaceId, NetworkNamespace, SocketInode};

/// A socket that may be a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its inode.
    pub inode: SocketInode,
    /// Its cookie, where the table shows one: a later socket with the same inode has another.
    pub cookie: Option<u64>,
    network: NamespaceId,
    table: Table,
}

/// Which of a namespace's tables lists a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// TCP and UDP.
    Inet,
    /// Unix streams.
    Unix,
}

/// The wanted sockets of one sample, ordered by inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedSet(Vec<Wanted>);

impl FromIterator<Wanted> for WantedSet {
    fn from_iter<I: IntoIterator<Item = Wanted>>(sockets: I) -> WantedSet {
        let mut sockets: Vec<Wanted> = sockets.into_iter().collect();
        sockets.sort_unstable_by_key(|wanted| wanted.inode);
        sockets.dedup_by_key(|wanted| wanted.inode);
        WantedSet(sockets)
    }
}

impl WantedSet {
    /// The sockets of these namespaces that may be listeners of a process which runs one of these
    /// configurations. A table that could not be read is taken to be as it was `before`: a listener
    /// in it must neither be forgotten nor be searched for anew.
    pub fn of(
        networks: &BTreeMap<NamespaceId, NetworkNamespace>,
        configurations: &[&Arc<Configuration>],
        before: &WantedSet,
    ) -> WantedSet {
        let configured = || configurations.iter().map(|configuration| &***configuration);
        let listed = networks.iter().flat_map(|(&id, network)| {
            let bound = network.bound.iter().flatten();
            let bound = bound.filter(move |s| listeners::may_be_one(s, network, configured()));
            let unix = network.unix_listeners.iter().flatten();
            let entry = move |inode, cookie, table| Wanted { inode, cookie, network: id, table };
            let bound = bound.map(move |socket| entry(socket.inode, socket.cookie, Table::Inet));
            bound.chain(unix.map(move |&inode| entry(inode, None, Table::Unix)))
        });
        let is_unread = |wanted: &Wanted| {
            networks.get(&wanted.network).is_some_and(|network| match wanted.table {
                Table::Inet => network.bound.is_none(),
                Table::Unix => network.unix_listeners.is_none(),
            })
        };
        listed.chain(before.iter().filter(is_unread)).collect()
    }

    /// Every wanted socket.
    pub fn iter(&self) -> impl Iterator<Item = Wanted> {
        self.0.iter().copied()
    }

    /// The socket of this inode, if it is wanted.
    pub fn get(&self, inode: SocketInode) -> Option<&Wanted> {
        let place = self.0.binary_search_by_key(&inode, |wanted| wanted.inode).ok()?;
        self.0.get(place)
    }

    /// Whether the socket of this inode is wanted.
    pub fn contains(&self, inode: SocketInode) -> bool {
        self.get(inode).is_some()
    }
}

#[cfg(test)]
impl Wanted {
    /// A TCP socket of some namespace.
    pub fn tcp(inode: SocketInode, cookie: Option<u64>) -> Wanted {
        Wanted { inode, cookie, network: NamespaceId(1), table: Table::Inet }
    }
}
