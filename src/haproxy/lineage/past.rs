//! What is remembered of a process from one sample to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::member::Role;
use super::proof::Superseded;
use crate::model::{NamespaceId, ProcessId, SocketInode, UnixSeconds, UserIds};

/// What earlier samples learned of one process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// The name of the service to which it belonged; `None` while it belonged to none.
    pub service: Option<String>,
    /// Its pid as its own pid namespace has it.
    pub own_pid: i32,
    /// That namespace.
    pub pid_namespace: Option<NamespaceId>,
    /// Its user ids.
    pub users: Option<UserIds>,
    /// The user who started it.
    pub starter: Option<u32>,
    /// Its role, where it was beyond doubt: seen as a parent or child of another HAProxy.
    pub role: Option<Role>,
    /// When it was first seen dead and not reaped.
    pub zombie_since: Option<UnixSeconds>,
    /// Fingerprint of the configuration on disk when it was born, if that was watched.
    pub born_with: Option<u64>,
    /// HAProxy's own `grace`, from the configuration it was seen serving with.
    pub own_grace_seconds: Option<f64>,
    /// It has been watched since its birth.
    pub from_birth: bool,
    /// Since when it has held a listener.
    pub held_since: Option<UnixSeconds>,
    /// When it was last seen holding one.
    pub last_held: Option<UnixSeconds>,
    /// The listeners it held then.
    pub listeners: Arc<BTreeSet<SocketInode>>,
    /// It has been current at some time.
    pub has_served: bool,
    /// A process of its service has been seen serving, so it is bound to the name of that service.
    pub belongs: bool,
    /// How a later process came to serve in its place.
    pub superseded: Option<Superseded>,
}

impl Past {
    /// Moves its times by as much as the wall clock was set.
    pub fn move_by(&mut self, seconds: f64) {
        let superseded = self.superseded.as_mut().map(|how| &mut how.since);
        let times = [&mut self.zombie_since, &mut self.held_since, &mut self.last_held];
        for time in times.into_iter().flatten().chain(superseded) {
            *time += seconds;
        }
    }
}

/// Every process that lived in the last sample, and those that held a lost listener last.
pub type Pasts = BTreeMap<ProcessId, Past>;
