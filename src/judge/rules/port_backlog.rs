//! Rule `port_backlog`: connections are dropped at a full accept queue, or the queue stays full.

use super::explain::pids;
use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::finding::{Finding, Judgement};
use crate::model::Protocol;

/// Finds ports whose fullest accept queue is full, or at which connections were dropped since the
/// last sample.
pub fn port_backlog(input: &RuleInput<'_>) -> Judgement {
    // Limits and drops are known from netlink only.
    let mut complete = input.case.listeners_known(Protocol::Tcp, Generation::Current);
    let mut findings = Vec::new();
    for (key, holders) in input.by_port(Generation::Current) {
        if key.protocol != Protocol::Tcp {
            continue;
        }
        let sockets = || holders.iter().flat_map(|port| &port.sockets);
        let queues = || sockets().map(|socket| socket.queue_length.zip(socket.queue_limit));
        complete &= queues().all(|queue| queue.is_some());
        let fullest = queues().flatten().max_by_key(|(length, _)| *length);
        let Some((length, limit)) = fullest else { continue };
        let full = limit > 0 && length >= limit;
        let drops = input.dropping.contains(key);
        if !full && !drops {
            continue;
        }
        let evidence = vec![
            format!("{length} connections wait in an accept queue of {limit}"),
            if drops {
                format!("the kernel dropped connections there; held by {}", pids(holders))
            } else {
                format!("{} does not accept them", pids(holders))
            },
        ];
        let advice = "check whether HAProxy is at maxconn, stopped or short of CPU (show info: \
                      CurrConns, Idle_pct), then raise backlog and net.core.somaxconn";
        findings.push(Finding::of_port(key.clone(), evidence, advice.to_owned()));
    }
    Judgement::if_known(complete, findings)
}

#[cfg(test)]
mod tests {
    use crate::policy::kind::Kind;
    use crate::stage::{Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";

    #[test]
    fn a_full_queue_and_a_queue_that_drops_are_found() {
        let queue = |length, drops| {
            let mut actor = actor(10, 1, LINE).tcp(80, 1);
            actor.bound[0].queue_length = Some(length);
            actor.bound[0].drops = Some(drops);
            [actor]
        };
        let full = Film::default().found("p", Kind::PortBacklog, &queue(128, 0));
        assert_eq!(full, ["port_backlog tcp 80"]);
        assert!(Film::default().found("p", Kind::PortBacklog, &queue(127, 5)).is_empty());
        let mut film = Film::default();
        film.see(1000.0, &queue(0, 5));
        film.see(1010.0, &queue(0, 6));
        let verdict = film.see(1020.0, &queue(0, 7));
        assert_eq!(verdict.one().findings(), ["port_backlog tcp 80"]);
        assert_eq!(verdict.one().ports[0].drops, Some(2), "since the port was first seen");
    }
}
