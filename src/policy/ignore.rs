//! Which anomalies the operator accepts, why, and until when.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::kind::Kind;
use crate::model::UnixSeconds;

/// One entry of `ignore`: it accepts the anomalies to which everything that it gives applies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ignore {
    /// The configured service whose entry this is; `None` for an entry of `defaults`.
    pub haproxy: Option<String>,
    /// The kind; `None` means any.
    pub kind: Option<Kind>,
    /// The port; `None` also accepts anomalies that are not about a port.
    pub port: Option<u16>,
    /// The address; `None` also accepts anomalies that are not about a port.
    pub address: Option<IpAddr>,
    /// Why the operator accepts them.
    pub reason: Option<String>,
    /// The moment after which they count again; `None` means never.
    pub until: Option<Until>,
}

/// The end of an `ignore` entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Until {
    /// The first moment at which the entry no longer applies.
    pub end: UnixSeconds,
    /// The date or time as the operator wrote it.
    pub written: String,
}

impl Ignore {
    /// Whether an anomaly is accepted `now` at this address and these ports, where it has them.
    /// `kind`: `None` for a finding of `check` that is no kind of anomaly.
    #[must_use]
    pub fn accepts(
        &self,
        kind: Option<Kind>,
        at: Option<&(IpAddr, RangeInclusive<u16>)>,
        now: UnixSeconds,
    ) -> bool {
        !self.has_expired(now)
            && self.kind.is_none_or(|ignored| kind == Some(ignored))
            && self.port.is_none_or(|port| at.is_some_and(|(_, ports)| *ports == (port..=port)))
            && self.address.is_none_or(|wanted| at.is_some_and(|(address, _)| *address == wanted))
    }

    /// Whether its end has passed.
    #[must_use]
    pub fn has_expired(&self, now: UnixSeconds) -> bool {
        self.until.as_ref().is_some_and(|until| now >= until.end)
    }
}
