//! The sockets in question: all that may be listeners.

use crate::model::SocketInode;

/// A socket in question, with its cookie where the tables tell.
pub type Wanted = (SocketInode, Option<u64>);

/// The sockets in question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedSet(Vec<Wanted>);

impl FromIterator<Wanted> for WantedSet {
    fn from_iter<I: IntoIterator<Item = Wanted>>(sockets: I) -> WantedSet {
        let mut sockets: Vec<Wanted> = sockets.into_iter().collect();
        sockets.sort_unstable_by_key(|(inode, _)| *inode);
        sockets.dedup_by_key(|(inode, _)| *inode);
        WantedSet(sockets)
    }
}

impl WantedSet {
    /// They are these.
    pub fn iter(&self) -> impl Iterator<Item = Wanted> {
        self.0.iter().copied()
    }

    /// A socket, if it is in question.
    pub fn get(&self, inode: SocketInode) -> Option<&Wanted> {
        let place = self.0.binary_search_by_key(&inode, |(inode, _)| *inode).ok()?;
        self.0.get(place)
    }
}
