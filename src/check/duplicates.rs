//! Finds ports that two proxies declare. One proxy may repeat a port to spread it over threads.

use super::finding::{Endpoint, Finding, Kind, Severity};
use crate::haproxy::config::{Declared, Listener};

/// Gives one warning for each listener whose ports an earlier section has on the same address.
///
/// It sorts the listeners and sweeps over them once, so that ten thousand binds cost little more
/// than sorting them. With `noreuseport` they are errors, which `own_conflicts` finds.
#[must_use]
pub fn find(declared: &Declared) -> Vec<Finding> {
    if declared.globals.noreuseport {
        return Vec::new();
    }
    let mut listeners: Vec<(usize, &Listener)> = declared.listeners.iter().enumerate().collect();
    listeners.sort_by(|(i, a), (j, b)| {
        (surface(a), a.ports.first, i).cmp(&(surface(b), b.ports.first, j))
    });
    let mut findings = Vec::new();
    let mut reach: [Option<(usize, &Listener)>; 2] = [None, None];
    let mut last = None;
    for (index, listener) in listeners {
        if last.replace(surface(listener)) != Some(surface(listener)) {
            reach = [None, None];
        }
        let other = reach.iter().flatten().find(|(_, other)| {
            other.section != listener.section && other.ports.last >= listener.ports.first
        });
        if let Some(&(other_index, other)) = other {
            let (first, second) =
                if other_index < index { (other, listener) } else { (listener, other) };
            findings.push(duplicate(first, second));
        }
        extend(&mut reach, (index, listener));
    }
    findings
}

/// Keeps the two listeners, of different sections, that reach furthest.
fn extend<'a>(reach: &mut [Option<(usize, &'a Listener)>; 2], new: (usize, &'a Listener)) {
    let [first, second] = reach;
    match *first {
        Some((_, top)) if top.section == new.1.section => {
            if new.1.ports.last > top.ports.last {
                *first = Some(new);
            }
        }
        Some((_, top)) if new.1.ports.last <= top.ports.last => {
            if second.is_none_or(|(_, other)| new.1.ports.last > other.ports.last) {
                *second = Some(new);
            }
        }
        _ => {
            *second = *first;
            *first = Some(new);
        }
    }
}

fn surface(l: &Listener) -> (Option<&str>, crate::model::Protocol, std::net::IpAddr, Option<&str>) {
    (l.namespace.as_deref(), l.protocol, l.address, l.interface.as_deref())
}

fn duplicate(first: &Listener, second: &Listener) -> Finding {
    let from = first.ports.first.max(second.ports.first);
    let to = first.ports.last.min(second.ports.last);
    let endpoint = Endpoint::of(second, from..=to);
    let what = format!("{endpoint} is declared by two proxies");
    Finding {
        context: Some(Box::new((
            first.place.clone(),
            format!("first declared in {}", first.section),
        ))),
        label: format!("declared again in {}", second.section),
        why: vec![
            "HAProxy accepts this, and the kernel hands each client to either of the two"
                .to_owned(),
        ],
        help: vec!["give each proxy a port or an address of its own".to_owned()],
        endpoint: Some(endpoint),
        ..Finding::new(Kind::PortDuplicate, Severity::Warning, second.place.clone(), &what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::read;
    use super::*;

    #[test]
    fn two_proxies_or_one() {
        let table: [(&str, &[(usize, &str)]); 8] = [
            ("frontend a\n bind :80\n bind :80\n", &[]),
            ("frontend a\n bind :80\nfrontend b\n bind :80\n", &[(4, "tcp 0.0.0.0:80")]),
            ("frontend a\n bind :80\nfrontend b\n bind 127.0.0.1:80\n", &[]),
            ("frontend a\n bind :80\nfrontend b\n bind :80 interface lo\n", &[]),
            ("frontend a\n bind :80\nfrontend b\n bind quic4@:80\n", &[]),
            ("frontend a\n bind :80-90\nfrontend b\n bind :85-99\n", &[(4, "tcp 0.0.0.0:85-90")]),
            (
                "frontend a\n bind :1-100\n bind :50\nfrontend b\n bind :60\nfrontend c\n bind :70\n",
                &[(5, "tcp 0.0.0.0:60"), (7, "tcp 0.0.0.0:70")],
            ),
            ("frontend b\n bind :60\nfrontend a\n bind :1-100\n", &[(4, "tcp 0.0.0.0:60")]),
        ];
        for (text, expected) in table {
            let findings = find(&read(text));
            let said: Vec<_> = findings
                .iter()
                .map(|f| (f.place.as_ref().unwrap().line, f.endpoint.as_ref().unwrap().to_string()))
                .collect();
            let expected: Vec<_> =
                expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
            assert_eq!(said, expected, "{text}");
        }
    }
}
