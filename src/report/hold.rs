//! Why `reap` leaves a process alone, in words.

use super::ranges::in_words;
use super::text::age;
use crate::reap::guards::Hold;

/// The reason in one sentence.
#[must_use]
pub fn because(hold: &Hold) -> String {
    match hold {
            Hold::NotUp(Some(_)) => {
                "no current process of this HAProxy serves, so this one may be the last that answers"
                    .to_owned()
            }
            Hold::NotUp(None) => "it is not known whether a current process serves".to_owned(),
            Hold::Blurred(why) => format!("nothing can be concluded now: {why}"),
            Hold::Incomplete => "not every listener of this HAProxy could be read".to_owned(),
            Hold::Reloading(sign) => format!("a reload is under way: {sign}"),
            Hold::ReloadFailed(seconds) => {
                format!("the last reload failed {} ago", age(*seconds))
            }
            Hold::ServingHalted(pid, 'T' | 't') => {
                format!("serving pid {pid} is stopped (SIGSTOP or a debugger): kill -CONT {pid}")
            }
            Hold::ServingHalted(pid, state) => {
                format!("serving pid {pid} is stuck in the kernel (state {state})")
            }
            Hold::Unserved(port) => format!(
                "clients wait at {} {}, and the serving process does not accept them",
                port.protocol, port.port
            ),
            Hold::Unconfirmed => "two looks in a row must show the same, and they do not yet".to_owned(),
            Hold::Unread(what) => format!("{what} could not be read"),
            Hold::HiddenSocket => {
                "one of its sockets is in no table that could be read; it may be a client".to_owned()
            }
            Hold::UnknownState => "it is not known whether it still listens or has clients".to_owned(),
            Hold::Master => {
                "it is a master; it ends by itself once its workers have ended".to_owned()
            }
            Hold::Init => "it is the first process of a container, which would end with it".to_owned(),
            Hold::OtherProgram(Some(path)) => {
                format!("it runs {}, which is not the program of the serving process", path.display())
            }
            Hold::OtherProgram(None) => {
                "the program of the serving process is not known".to_owned()
            }
            Hold::NoHandler => "it has no handler for SIGUSR1, which would end it at once and cut its clients".to_owned(),
            Hold::Traced(pid) => format!("pid {pid} traces it (a debugger)"),
            Hold::NoProof => "nothing shows which process superseded it".to_owned(),
            Hold::Inferred(proof) => format!(
                "that it was superseded is only inferred ({}), and the serving process did not come by a \
                 reload; name it with --pid if you know better",
                proof.as_str()
            ),
            Hold::Stranger => "the process that was told to replace it shares no configuration, pidfile or \
                               address with it, so its pid may have been another's; name it with --pid if \
                               you know better"
                .to_owned(),
            Hold::Needed(ports) => format!(
                "it listens on {}, which the serving process has loaded and does not have; something about \
                 this judgement is wrong",
                in_words(ports)
            ),
            Hold::IgnoresSoftStop => {
                "SIGUSR1 was sent and it still listens; a stronger signal would cut its clients".to_owned()
            }
            Hold::LastSignal(last) => format!(
                "it is still there after SIG{}, and last_signal permits nothing stronger",
                last.as_str()
            ),
            Hold::RunCap(cap) => format!("max_per_run: one run sends at most {cap}"),
            Hold::HourCap(cap) => format!("max_per_hour: at most {cap} are sent within an hour"),
            Hold::ShareCap(signalled, of) => {
                format!("max_share: {signalled} of {of} processes were signalled within an hour")
            }
            Hold::Quiet(written) => format!("quiet: {written}"),
            Hold::Off(path) => format!("{} switches reap off", path.display()),
            Hold::MissingRight => "the right to signal it is missing (CAP_KILL)".to_owned(),
            Hold::Changed => "what was planned is no longer so; it is judged again in the next run".to_owned(),
    }
}
