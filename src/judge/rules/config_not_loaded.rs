//! Rule `config_not_loaded`: the configuration on disk is not the one that serves.

use super::input::RuleInput;
use crate::haproxy::lineage::generations::Generation;
use crate::judge::case::port_key;
use crate::judge::finding::{Finding, Judgement};
use crate::judge::verdict::PortKey;
use crate::model::Configuration;

/// The maximum number of changes that the evidence lists.
const MOST_CHANGES: usize = 10;

/// Finds a configuration that has waited for its reload longer than `reload_grace`.
pub fn config_not_loaded(input: &RuleInput<'_>) -> Judgement {
    let Some(changed) = input.case.config_has_changed() else {
        return Judgement::if_known(input.case.generations.up == Some(false), Vec::new());
    };
    let Some(configuration) = input.case.configuration.as_deref().filter(|_| changed) else {
        return Judgement::of(Vec::new());
    };
    let mut evidence = changes(input, configuration);
    if evidence.is_empty() {
        evidence.push("the files differ; the ports would stay the same".to_owned());
    }
    let error = configuration.declared.errors.first();
    // Only the place is shown: a line that HAProxy does not understand may hold anything.
    evidence.extend(error.map(|error| {
        let (file, line) = (error.place.file.display(), error.place.line);
        format!("it would not load: HAProxy refuses {file}:{line}")
    }));
    let now = input.case.snapshot.taken;
    Judgement::of(vec![Finding {
        since: Some(configuration.modified).filter(|&modified| modified <= now),
        grace_seconds: Some(input.case.rules.reload_grace_seconds),
        evidence,
        advice: format!("haproxy-host-exporter check --haproxy {}, then reload", input.case.name),
        ..Finding::default()
    }])
}

/// The ports that a reload would bind and release.
fn changes(input: &RuleInput<'_>, configuration: &Configuration) -> Vec<String> {
    let added = input.case.unbound.iter().map(|endpoint| {
        format!("a reload would bind {}", in_words(&port_key(input.case.snapshot, endpoint)))
    });
    let removed = input.by_port(Generation::Current).filter(|(_, holders)| {
        configuration.complete
            && holders.first().is_some_and(|port| input.is_undeclared(configuration, port))
    });
    let removed = removed.map(|(key, _)| format!("a reload would release {}", in_words(key)));
    added.chain(removed).take(MOST_CHANGES).collect()
}

fn in_words(key: &PortKey) -> String {
    let PortKey { protocol, address, port, netns, .. } = key;
    let place = if netns.is_empty() { String::new() } else { format!(" in netns {netns}") };
    format!("{protocol} {address} port {port}{place}")
}

#[cfg(test)]
mod tests {
    use crate::policy::kind::Kind;
    use crate::stage::{Film, actor};

    const LINE: &str = "haproxy -D -f /a.cfg -p /run/p";
    const TWO: &str = "frontend a\n bind :80\n bind :81\n";

    #[test]
    fn an_edit_is_found_once_reload_grace_is_over() {
        let mut film = Film::default();
        let edited = || actor(10, 1, LINE).configured(TWO, 2000).tcp(80, 1).tcp(82, 2);
        film.see(2001.0, &[edited()]);
        let early = film.see(5599.0, &[edited()]);
        assert!(early.one().findings().is_empty(), "the reload may take an hour");
        let late = film.see(5601.0, &[edited()]);
        assert_eq!(late.one().findings(), ["config_not_loaded"]);
        let evidence = late.one().anomalies[0].evidence.join("; ");
        assert!(evidence.contains("would bind tcp 0.0.0.0 port 81"), "{evidence}");
        assert!(evidence.contains("would release tcp 0.0.0.0 port 82"), "{evidence}");
    }

    #[test]
    fn a_process_watched_since_its_start_is_compared_by_content() {
        let mut film = Film::default();
        let born =
            |text, modified| actor(10, 1000, LINE).configured(text, modified).tcp(80, 1).tcp(81, 2);
        film.see(1001.0, &[born(TWO, 900)]);
        let touched = film.see(9000.0, &[born(TWO, 5000)]);
        assert!(touched.one().anomalies.is_empty(), "the same content");
        let changed = film.see(9001.0, &[born("frontend a\n bind :80\n", 900)]);
        assert_eq!(changed.one().anomalies[0].kind, Kind::ConfigNotLoaded, "an older date");
    }

    #[test]
    fn a_process_found_later_is_compared_by_date() {
        let at = |modified| actor(10, 1000, LINE).configured("frontend a\n bind :80\n", modified);
        for (what, modified, fires) in [
            ("written just before the start", 1000, false),
            ("edited before the first look", 1003, true),
            ("edited a while after the start", 1020, true),
        ] {
            let mut film = Film::default();
            film.see(1025.0, &[at(modified).tcp(80, 1).tcp(81, 2)]);
            let verdict = film.see(9000.0, &[at(modified).tcp(80, 1).tcp(81, 2)]);
            let kinds: Vec<Kind> = verdict.one().anomalies.iter().map(|a| a.kind).collect();
            assert_eq!(kinds.contains(&Kind::ConfigNotLoaded), fires, "{what}");
        }
    }

    /// An entrypoint renders the file and then executes HAProxy: the process is as old as the entrypoint.
    #[test]
    fn a_file_that_was_rendered_by_what_became_the_process_is_loaded() {
        let text = "frontend a\n bind :80\n bind :81\n";
        let rendered = || actor(10, 1000, "haproxy -db -f /a.cfg").configured(text, 1004);
        let mut film = Film::default();
        let well = film.settle(1025.0, &[rendered().tcp(80, 1).tcp(81, 2)]);
        assert!(well.one().anomalies.is_empty(), "{:?}", well.one().anomalies);
        let lost = film.settle(1100.0, &[rendered().tcp(80, 1)]);
        let kinds: Vec<Kind> = lost.one().anomalies.iter().map(|a| a.kind).collect();
        assert!(kinds.contains(&Kind::PortMissing), "a lost port is no edit: {kinds:?}");
    }
}
