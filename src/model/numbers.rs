//! Sets of port numbers as ranges, in the notation of people and of sysctl.

use std::ops::RangeInclusive;

/// Groups ascending numbers into ranges.
#[must_use]
pub fn runs(numbers: impl IntoIterator<Item = u16>) -> Vec<RangeInclusive<u16>> {
    let mut runs: Vec<RangeInclusive<u16>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if number == *run.end() => {}
            Some(run) if number == run.end().saturating_add(1) => *run = *run.start()..=number,
            _ => runs.push(number..=number),
        }
    }
    runs
}

/// Writes ranges as in `80,443,8000-8010`.
#[must_use]
pub fn list(runs: &[RangeInclusive<u16>]) -> String {
    let words: Vec<String> = runs.iter().map(run).collect();
    words.join(",")
}

/// Writes one range as `80` or `8000-8010`.
#[must_use]
pub fn run(run: &RangeInclusive<u16>) -> String {
    if run.start() == run.end() {
        run.start().to_string()
    } else {
        format!("{}-{}", run.start(), run.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_are_one_range() {
        let table: [(&[u16], &str); 4] = [
            (&[], ""),
            (&[80], "80"),
            (&[80, 81, 83, 84, 85], "80-81,83-85"),
            (&[65534, 65535], "65534-65535"),
        ];
        for (numbers, expected) in table {
            assert_eq!(list(&runs(numbers.iter().copied())), expected);
        }
    }
}
