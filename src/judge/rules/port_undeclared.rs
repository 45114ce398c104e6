//! Rule `port_undeclared`: the current generation listens on a port that no configuration declares.

use super::explain::pids;
use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::finding::{Finding, Judgement};

/// Finds ports of the current generation that no line of the configuration on disk can have bound.
pub fn port_undeclared(input: &RuleInput<'_>) -> Judgement {
    let configuration = match input.loaded_configuration() {
        Ok(configuration) => configuration,
        Err(answer) => return answer,
    };
    let undeclared = input.by_port(Generation::Current).filter(|(_, holders)| {
        holders.first().is_some_and(|port| input.is_undeclared(configuration, port))
    });
    let findings = undeclared.map(|(key, holders)| {
        let fact = "listens there, and no configuration file declares it";
        let advice = "compare the files that its command line names with those it was started \
                      with, or find what bound the port at run time; then reload";
        let evidence = vec![format!("{} {fact}", pids(holders))];
        Finding::of_port(key.clone(), evidence, advice.to_owned())
    });
    let places_known = input.case.places.know_all(&configuration.ports);
    let complete = places_known && input.knows_ports_of(Generation::Current);
    Judgement::if_known(complete, findings.collect())
}

#[cfg(test)]
mod tests {
    use crate::policy::kind::Kind;
    use crate::stage::{Actor, Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const TWO: &str = "frontend a\n bind :80\n bind :81\n";

    /// Serving since second 100, with a configuration of second 50.
    fn serving(text: &str) -> Actor {
        actor(10, 100, LINE).configured(text, 50)
    }

    #[test]
    fn a_port_that_no_line_declares_is_found() {
        let table: [(&str, Actor, &[&str]); 5] = [
            ("all declared", serving(TWO).tcp(80, 1).tcp(81, 2), &[]),
            (
                "one more",
                serving(TWO).tcp(80, 1).tcp(81, 2).tcp(82, 3),
                &["port_undeclared tcp 82"],
            ),
            (
                "a line that cannot be decided may be the cause",
                serving("frontend a\n bind :80\n bind name.example:82\n").tcp(80, 1).tcp(82, 3),
                &[],
            ),
            (
                "an edit waits for its reload",
                actor(10, 100, LINE)
                    .configured("frontend a\n bind :80\n", 200)
                    .tcp(80, 1)
                    .tcp(82, 2),
                &[],
            ),
            ("nothing is known", actor(10, 100, LINE).tcp(82, 3), &[]),
        ];
        for (what, actor, expected) in table {
            let verdict = Film::default().settle(1000.0, &[actor]);
            assert_eq!(verdict.one().findings(), expected, "{what}");
        }
        let unknown = Film::default().settle(1000.0, &[actor(10, 100, LINE).tcp(82, 3)]);
        assert!(!unknown.one().judged(Kind::PortUndeclared));
        assert!(!unknown.one().judged(Kind::PortMissing));
        assert!(!unknown.one().judged(Kind::ConfigNotLoaded));
    }
}
