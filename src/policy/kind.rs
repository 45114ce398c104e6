//! The kinds of anomalies: one row for each, with its name, its severity and its title.

use crate::model::named::named;

named! {
    /// How much an anomaly matters.
    pub enum Severity {
        /// Clients are hurt now, or the next start or reload will hurt them.
        Critical = "critical",
        /// Something is wrong and will not go away by itself.
        Warning = "warning",
        /// Good to know. It never makes a command fail.
        Info = "info",
    }
}

/// Defines [`Kind`] from its rows: the title as documentation, then the variant, its name and its
/// severity. The rule of a kind lies in `judge/rules/`, in the file of that name.
macro_rules! kinds {
    ($($(#[doc = $title:literal])+ $kind:ident $name:literal $severity:ident;)+) => {
        named! {
            /// What kind of anomaly it is (label `kind`), in the order in which a person reads them.
            pub enum Kind {
                $($(#[doc = $title])+ $kind = $name,)+
            }
        }

        impl Kind {
            /// How much it matters.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self {
                    $(Kind::$kind => Severity::$severity,)+
                }
            }
        }
    };
}

kinds! {
    /// The current generation listens outside the allowed ports.
    PortOutOfRange "port_out_of_range" Warning;
    /// The current generation listens on a port that no configuration on disk declares.
    PortUndeclared "port_undeclared" Warning;
    /// A declared port that no current process listens on, and that nothing blocks.
    PortMissing "port_missing" Critical;
    /// A stale process still holds a listening socket.
    PortStaleListener "port_stale_listener" Critical;
    /// A declared port that is not bound is held by something else.
    PortBlocked "port_blocked" Critical;
    /// Two generations or two services accept on one port through separate sockets.
    PortSplit "port_split" Critical;
    /// A port lies in the kernel's ephemeral range, unreserved.
    PortEphemeral "port_ephemeral" Info;
    /// Connections are dropped at a listener's full accept queue.
    PortBacklog "port_backlog" Warning;
    /// A stale process with nothing left does not exit.
    ProcessIdle "process_idle" Warning;
    /// Dead processes are not reaped by their parent.
    ProcessZombie "process_zombie" Warning;
    /// A worker has lost its master.
    ProcessOrphan "process_orphan" Warning;
    /// The last reload of a master did not land.
    ReloadFailed "reload_failed" Warning;
    /// Two reloads ran at once, and both left a listening process.
    ReloadRaced "reload_raced" Critical;
    /// The pidfile does not name the serving process.
    PidfileMismatch "pidfile_mismatch" Warning;
    /// The configuration on disk is not the one that serves.
    ConfigNotLoaded "config_not_loaded" Info;
    /// The running executable was replaced on disk.
    BinaryOutdated "binary_outdated" Info;
}

impl Kind {
    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
