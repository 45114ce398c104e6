//! Reads the `global` section: settings of the process, its environment and its `stats socket`s
//! (configuration manual, section 3.1; `src/cfgparse-global.c`, `src/cli.c`).

use std::sync::Arc;
use std::time::Duration;

use super::bind::Socket;
use super::context::Context;
use super::findings::{Line, Switch};

/// Keywords that change the process or the meaning of later lines. A doubt about one is reported.
const REPORTED: [&[u8]; 14] = [
    b"chroot",
    b"daemon",
    b"gid",
    b"grace",
    b"group",
    b"hard-stop-after",
    b"localpeer",
    b"master-worker",
    b"noreuseport",
    b"pidfile",
    b"setenv",
    b"uid",
    b"unix-bind",
    b"user",
];

/// Reads a line of a `global` section. With `discovering` set it reads only what HAProxy 3.1 and later
/// take from their first pass: the environment and the local peer's name.
pub(super) fn line(line: &Line<'_>, discovering: bool, context: &mut Context<'_>) {
    let keyword = line.text(0);
    let doubt = line.doubt_to(line.words.len());
    match keyword {
        b"setenv" | b"presetenv" => assign(line, context),
        b"unsetenv" => {
            for word in line.rest(1) {
                match doubt {
                    Some(doubt) => context.variables.forget(&word.text, doubt),
                    None => context.variables.unset(&word.text),
                }
            }
        }
        b"resetenv" => {
            if let Some(doubt) = doubt {
                context.variables.forget_all(doubt);
            } else {
                let names = line.rest(1).iter().map(|word| word.text.as_slice());
                context.variables.keep_only(&names.collect::<Vec<_>>());
            }
        }
        // -L takes precedence.
        b"localpeer" if context.launch.local_peer.is_none() => {
            if let Some(doubt) = doubt {
                context.local_peer = None;
                context.variables.forget(b"HAPROXY_LOCALPEER", doubt);
            } else {
                let name = line.string(1);
                context.variables.set(b"HAPROXY_LOCALPEER", name.as_bytes());
                context.local_peer = Some(name);
            }
        }
        _ if discovering => return,
        b"stats" if line.text(1) == b"socket" => stats_socket(line, context),
        _ => setting(line, context),
    }
    if let Some(doubt) = line.doubt.filter(|_| !discovering && REPORTED.contains(&keyword)) {
        let why = format!("it is not known whether this setting applies: {doubt}");
        context.findings.uncertain(line.place(0), why, vec![]);
    }
}

/// Reads `setenv NAME VALUE` and `presetenv NAME VALUE`.
fn assign(line: &Line<'_>, context: &mut Context<'_>) {
    if line.words.len() < 3 && line.doubt_to(2).is_none() {
        let what = format!("'{}' needs a name and a value", line.string(0));
        let help =
            "HAProxy takes an empty value for the end of the line; unsetenv clears a variable";
        return context.findings.refuse(line, 0, what, Some(help));
    }
    let (name, value) = (line.text(1), line.text(2));
    if line.words.get(1).is_some_and(|word| word.doubt.is_some()) {
        let reason = "an earlier line sets a variable whose name is not known".into();
        context.variables.forget_all(&reason);
        return;
    }
    match line.doubt_to(2) {
        Some(doubt) => context.variables.forget(name, doubt),
        None if line.text(0) == b"setenv" => context.variables.set(name, value),
        None => context.variables.preset(name, value),
    }
}

/// Reads `stats socket ADDRESS KEYWORD…`.
fn stats_socket(line: &Line<'_>, context: &mut Context<'_>) {
    let Some(word) = line.words.get(2) else {
        let help = Some("write a path or ADDRESS:PORT");
        return context.findings.refuse(line, 1, "'stats socket' needs an address", help);
    };
    context.sockets(word, line, line.rest(3), "stats socket");
}

/// Reads the settings that are one keyword with at most one value.
fn setting(line: &Line<'_>, context: &mut Context<'_>) {
    match line.text(0) {
        b"no-quic" => return context.quic_off.set(true, line.doubt),
        b"tune.quic.listen" => {
            return context.quic_off.set(line.text(1) == b"off", line.doubt_to(1));
        }
        _ => {}
    }
    if line.doubt.is_some() {
        return;
    }
    let value = (line.words.len() > 1).then(|| line.string(1));
    let globals = &mut context.findings.declared.globals;
    match line.text(0) {
        b"daemon" => globals.daemon = true,
        b"mworker-max-reloads" => globals.max_reloads = line.string(1).parse().ok(),
        b"master-worker" => globals.master_worker = true,
        b"noreuseport" => {
            globals.noreuseport = true;
            context.switched.push(("REUSEPORT", false));
        }
        b"nosplice" => context.switched.push(("SPLICE", false)),
        b"nogetaddrinfo" => context.switched.push(("GETADDRINFO", false)),
        b"noepoll" => context.switched.push(("EPOLL", false)),
        b"nopoll" => context.switched.push(("POLL", false)),
        b"tune.disable-fast-forward" => context.switched.push(("FAST-FORWARD", false)),
        b"ssl-server-verify" => {
            let none = line.text(1) == b"none";
            context.switched.push(("SERVER-SSL-VERIFY-NONE", none));
        }
        // HAProxy keeps the first pidfile and prefix, and warns about another.
        b"pidfile" => globals.pidfile = globals.pidfile.take().or(value),
        b"unix-bind" => {
            let at = line.words.iter().position(|word| word.text == b"prefix");
            let prefix = at.map(|index| line.string(index + 1));
            context.unix_prefix = context.unix_prefix.take().or(prefix);
        }
        keyword @ (b"grace" | b"hard-stop-after") => match duration(line.text(1)) {
            Some(duration) if keyword == b"grace" => globals.grace = Some(duration),
            Some(duration) => globals.hard_stop_after = Some(duration),
            None if line.doubt_to(1).is_some() => {}
            None => {
                let what = format!("'{}' is not a time", line.string(1));
                let help =
                    "write a number and a unit: us, ms, s, m, h or d; without a unit it is ms";
                context.findings.refuse(line, 1, what, Some(help));
            }
        },
        _ => {}
    }
}

/// Reads a time: milliseconds unless it has a unit, rounded up, at most `2^31-1` ms (configuration
/// manual, section 2.5).
fn duration(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "" | "ms" => number,
        "us" => number.div_ceil(1000),
        "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        "d" => number.checked_mul(86_400_000)?,
        _ => return None,
    };
    (milliseconds < 0x8000_0000).then(|| Duration::from_millis(milliseconds))
}

/// Removes the QUIC listeners if `no-quic` applies, which is known only at the end.
pub(super) fn close_quic(context: &mut Context<'_>) {
    match &context.quic_off {
        Switch::Off => {}
        Switch::On => context.findings.declared.listeners.retain(|listener| !listener.quic),
        Switch::Maybe(reason) => {
            let reason = Arc::clone(reason);
            let listeners = std::mem::take(&mut context.findings.declared.listeners);
            for listener in listeners {
                let doubt = listener.quic.then_some(&reason);
                context.findings.socket(Socket::Listener(listener), doubt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("10", Some(10)),
            ("10ms", Some(10)),
            ("1500us", Some(2)),
            ("3s", Some(3000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("24d", Some(2_073_600_000)),
            ("25d", None),
            ("99999999999999999999d", None),
            ("", None),
            ("s", None),
            ("3 s", None),
        ] {
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(duration(text.as_bytes()), expected, "{text}");
        }
    }
}
