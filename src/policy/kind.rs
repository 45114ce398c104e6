//! The kinds of anomalies: one row for each, with its name, its severity, its alert, its
//! title and its effect.

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

/// Defines [`Kind`] from its rows: the title as documentation, then the variant, its name, its
/// severity, its alert and its effect. The rule of a kind lies in `judge/rules/`, in the file of that name.
macro_rules! kinds {
    ($($(#[doc = $title:literal])+ $kind:ident $name:literal $severity:ident $alert:literal $effect:literal;)+) => {
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

            /// The alert about it, which is also the name of its runbook in `alerts/runbooks`.
            #[must_use]
            pub fn alert(self) -> &'static str {
                match self {
                    $(Kind::$kind => $alert,)+
                }
            }

            /// What it does to clients, or will do.
            #[must_use]
            pub fn effect(self) -> &'static str {
                match self {
                    $(Kind::$kind => $effect,)+
                }
            }
        }
    };
}

kinds! {
    /// The current generation listens outside the allowed ports.
    PortOutOfRange "port_out_of_range" Warning
        "HAProxyPortOutOfRange"
        "clients reach ports that the policy does not allow";
    /// The current generation listens on a port that no configuration on disk declares.
    PortUndeclared "port_undeclared" Warning
        "HAProxyPortUndeclared"
        "clients use ports that the next reload closes";
    /// No current process listens on a declared port, and nothing blocks it.
    PortMissing "port_missing" Critical
        "HAProxyPortMissing"
        "clients of declared ports are refused";
    /// A stale process still holds a listening socket.
    PortStaleListener "port_stale_listener" Critical
        "HAProxyStaleListener"
        "some new clients are served by an old configuration";
    /// Something else holds a declared port that HAProxy has not bound.
    PortBlocked "port_blocked" Critical
        "HAProxyPortBlocked"
        "declared ports are not served, and the next start or reload fails";
    /// Two generations or two services accept on one port through separate sockets.
    PortSplit "port_split" Critical
        "HAProxyPortSplit"
        "clients reach one of two configurations, by chance";
    /// A port lies in the kernel's ephemeral range, unreserved.
    PortEphemeral "port_ephemeral" Info
        "HAProxyPortEphemeral"
        "an outgoing connection may take the port while it is not bound";
    /// Connections are dropped at a listener's full accept queue.
    PortBacklog "port_backlog" Warning
        "HAProxyAcceptQueueFull"
        "new clients wait or are dropped";
    /// A stale process has neither listener nor connection left and still runs.
    ProcessIdle "process_idle" Warning
        "HAProxyStaleProcessIdle"
        "no client is hurt; memory is held for nothing";
    /// Dead processes are not reaped by their parent.
    ProcessZombie "process_zombie" Warning
        "HAProxyZombies"
        "no client is hurt; pids are used up";
    /// A worker has lost its master.
    ProcessOrphan "process_orphan" Warning
        "HAProxyOrphan"
        "no reload reaches this process";
    /// The last reload of a master did not take effect.
    ReloadFailed "reload_failed" Warning
        "HAProxyReloadFailed"
        "clients are served by the old configuration";
    /// Two reloads ran at once, and both left a listening process.
    ReloadRaced "reload_raced" Critical
        "HAProxyReloadRaced"
        "clients reach one of several configurations, by chance";
    /// The pidfile does not name the serving process.
    PidfileMismatch "pidfile_mismatch" Warning
        "HAProxyPidfileMismatch"
        "the next reload signals the wrong process";
    /// The configuration on disk is not the one that serves.
    ConfigNotLoaded "config_not_loaded" Info
        "HAProxyConfigNotLoaded"
        "what was edited is not in effect";
    /// The running executable was replaced on disk.
    BinaryOutdated "binary_outdated" Info
        "HAProxyBinaryOutdated"
        "the upgrade is not in effect";
}

impl Kind {
    /// Its place among the kinds of one cause, which is named by the first of them.
    #[must_use]
    pub fn precedence(self) -> usize {
        let first = [
            Kind::PortBlocked,
            Kind::ReloadRaced,
            Kind::PortSplit,
            Kind::PortStaleListener,
            Kind::ProcessIdle,
        ];
        let place = first.iter().position(|kind| *kind == self);
        place.unwrap_or(first.len() + self as usize)
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
