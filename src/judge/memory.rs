//! What one judgement leaves for the next: time, counters, and what was seen before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::hold::Standings;
use super::queues::Drops;
use super::reload_count::Reloads;
use super::verdict::Kind;
use crate::haproxy::lineage::identity::Identity;
use crate::haproxy::lineage::past::Pasts;
use crate::haproxy::places::Places;
use crate::model::{Configuration, NamespaceId, UnixSeconds};

/// What is remembered between samples.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// There was a sample before.
    pub(super) awake: bool,
    /// Every process that lived in it.
    pub(super) processes: Pasts,
    /// Every haproxy not yet forgotten, by name.
    pub(super) haproxys: BTreeMap<String, HaproxyMemory>,
}

/// What is remembered of one haproxy.
#[derive(Debug, Clone)]
pub(super) struct HaproxyMemory {
    pub identity: Identity,
    pub last_seen: UnixSeconds,
    pub standings: Standings,
    pub observed: BTreeMap<Kind, u64>,
    pub reloads: Reloads,
    pub drops: Drops,
    /// Its configuration when it was last seen.
    pub configuration: Option<Arc<Configuration>>,
    /// The network namespaces it bound in.
    pub places: Places,
    /// TCP ports it has listened on: what is connected there was accepted.
    pub tcp_ports: Arc<BTreeSet<(NamespaceId, u16)>>,
    /// UDP ports it has listened on: what is connected there is QUIC.
    pub udp_ports: Arc<BTreeSet<u16>>,
}
