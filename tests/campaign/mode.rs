//! What a campaign draws from: ways to run a service, and acts that happen to one.

use crate::support::Version;

/// How a service is run and reloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// `-D -sf`.
    Daemon,
    /// `-D -sf -x`.
    Transfer,
    /// `-W -D`, SIGUSR2.
    Master,
    /// `-Ws`, SIGUSR2.
    Notify,
    /// `-D -sf`, with `chroot` in the configuration.
    Jail,
    /// `-D -sf` in a network namespace of its own.
    Namespace,
    /// `-D -sf`, one of two services from one file: the port comes from the environment.
    Twin,
}

impl Mode {
    pub const ALL: [Self; 7] = [
        Self::Daemon,
        Self::Transfer,
        Self::Master,
        Self::Notify,
        Self::Jail,
        Self::Namespace,
        Self::Twin,
    ];

    /// As the report and the directories call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "D",
            Self::Transfer => "Dx",
            Self::Master => "W",
            Self::Notify => "Ws",
            Self::Jail => "jail",
            Self::Namespace => "netns",
            Self::Twin => "twin",
        }
    }

    pub fn is_master(self) -> bool {
        matches!(self, Self::Master | Self::Notify)
    }

    /// The generations have one pidfile, which joins them where the list of the newer one names no process.
    pub fn can_strand(self) -> bool {
        matches!(self, Self::Daemon | Self::Transfer | Self::Jail)
    }

    /// The build of 2.8 has no `-Ws`.
    pub fn exists(self, version: Version) -> bool {
        self != Self::Notify || version != Version::V2_8
    }
}

/// What may happen to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// A reload of the same configuration.
    Reload,
    /// A reload to other ports.
    Ports,
    /// A reload of a configuration that HAProxy refuses.
    Bad,
    /// A reload to a port that another program holds.
    Blocked,
    /// Several reloads one after the other.
    Burst,
    /// A reload by `-st`; of a master, a plain one.
    Stop,
    /// Clients connect and stay.
    Hold,
    /// Half of the clients go.
    Release,
    /// A reload whose list names no process, as after a lost pidfile: the old process goes on listening until
    /// it is told to stop. A master has no such list, and without a pidfile the two would be two services.
    Strand,
    /// The serving process is killed, and the service started again.
    Kill,
    /// The master is killed, and the service started again; of a daemon as `Kill`.
    KillMaster,
}

impl Act {
    /// Each with how often it is drawn.
    pub const WEIGHTS: [(Self, usize); 11] = [
        (Self::Reload, 6),
        (Self::Ports, 6),
        (Self::Bad, 2),
        (Self::Blocked, 1),
        (Self::Burst, 2),
        (Self::Stop, 2),
        (Self::Hold, 5),
        (Self::Release, 3),
        (Self::Strand, 2),
        (Self::Kill, 1),
        (Self::KillMaster, 1),
    ];
}
