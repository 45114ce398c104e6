//! What is shipped with every duration divided by one factor, and nothing else changed, so that an
//! alert that waits for minutes can be seen to fire in seconds.

/// Keys of rules, of Alertmanager's routes and of Prometheus's configuration whose value is a duration.
const KEYS: [&str; 8] = [
    "for: ",
    "keep_firing_for: ",
    "group_wait: ",
    "group_interval: ",
    "repeat_interval: ",
    "resolve_timeout: ",
    "scrape_interval: ",
    "evaluation_interval: ",
];

/// A piece of a rule file: a duration in milliseconds, or anything else.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Milliseconds(u64),
}

/// Cuts a file into durations (values of [`KEYS`], and ranges `[…]` of expressions) and what is between
/// them.
fn pieces(rules: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut text = String::new();
    for line in rules.split_inclusive('\n') {
        let comment = line.trim_start().starts_with('#');
        let waits =
            KEYS.iter().find_map(|key| line.trim_start().strip_prefix(key)).filter(|_| !comment);
        let mut rest = line;
        if let Some(duration) = waits {
            let at = line.len() - duration.len();
            let end = at + duration.trim_end().len();
            text.push_str(&line[..at]);
            found.push(Piece::Text(std::mem::take(&mut text)));
            found.push(Piece::Milliseconds(milliseconds(&line[at..end]).expect("a duration")));
            rest = &line[end..];
        }
        while let Some((before, after)) = rest.split_once('[').filter(|_| !comment) {
            text.push_str(before);
            text.push('[');
            rest = after;
            let Some((inside, end)) = after.split_once(']') else { continue };
            // A subquery has two durations: `[1d:5m]`.
            let values: Option<Vec<u64>> = inside.split(':').map(milliseconds).collect();
            let Some(values) = values else { continue };
            for (place, value) in values.into_iter().enumerate() {
                text.push_str(if place > 0 { ":" } else { "" });
                found.push(Piece::Text(std::mem::take(&mut text)));
                found.push(Piece::Milliseconds(value));
            }
            rest = &after[after.len() - end.len() - 1..];
        }
        text.push_str(rest);
    }
    found.push(Piece::Text(text));
    found
}

/// `1h15m` or `500ms`; `None` when it is no duration.
fn milliseconds(duration: &str) -> Option<u64> {
    if let Some(number) = duration.strip_suffix("ms") {
        return number.parse().ok();
    }
    let mut total = 0;
    let mut number = String::new();
    for letter in duration.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            'd' => 86_400_000,
            'h' => 3_600_000,
            'm' => 60_000,
            's' => 1_000,
            _ => return None,
        };
        total += number.parse::<u64>().ok()? * unit;
        number.clear();
    }
    (number.is_empty() && total > 0).then_some(total)
}

/// The text, `factor` times faster. Fails where a duration does not divide.
pub fn faster(rules: &str, factor: u64) -> String {
    let slow = pieces(rules);
    let text: String = slow
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Milliseconds(value) => {
                assert_eq!(value % factor, 0, "{value} ms does not divide by {factor}");
                format!("{}ms", value / factor)
            }
        })
        .collect();
    // Read back: the same text around durations that are all smaller by the factor.
    for (slow, fast) in slow.iter().zip(pieces(&text)) {
        match (slow, fast) {
            (Piece::Text(slow), Piece::Text(fast)) => assert_eq!(*slow, fast),
            (Piece::Milliseconds(slow), Piece::Milliseconds(fast)) => {
                assert_eq!(*slow, fast * factor);
            }
            pair => panic!("{pair:?}"),
        }
    }
    text
}

#[test]
fn only_durations_change() {
    let rules = "  # for: 5m, [5m]\n  expr: rate(a{b=\"[x]\"}[1h15m]) > f(c[1h:5m])\n  for: 10m\n  keep_firing_for: 1h\n  description: for: 5m [y]\n";
    let fast = "  # for: 5m, [5m]\n  expr: rate(a{b=\"[x]\"}[75000ms]) > f(c[60000ms:5000ms])\n  for: 10000ms\n  keep_firing_for: 60000ms\n  description: for: 5m [y]\n";
    assert_eq!(faster(rules, 60), fast);
}
