//! Reads YAML. Errors have the position of the value that is wrong. No other file knows the reader.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::{Deserialize, de};

/// Reads a document; `None` if it is empty. The error has its position.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<Option<T>, String> {
    serde_yaml::from_str(text).map_err(positioned)
}

/// A position in a document. Both numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    line: usize,
    column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// The keys of a document that is a mapping, in its order.
#[must_use]
pub fn keys(text: &str) -> Vec<String> {
    let pairs = parse::<Pairs<IgnoredAny>>(text).ok().flatten().unwrap_or_default();
    pairs.0.into_iter().map(|(key, _)| key).collect()
}

/// The position of a key of the document.
#[must_use]
pub fn key_position(text: &str, key: &str) -> Position {
    stop(text, Place { keys: &[key], message: "", at_key: true })
}

/// The position of the value below `keys`. An index of a sequence is written as a key.
#[must_use]
pub fn value_position(text: &str, keys: &[&str]) -> Position {
    stop(text, Place { keys, message: "", at_key: false })
}

/// The position at which the reader fails; the first of the document if it does not.
fn stop(text: &str, place: Place<'_>) -> Position {
    let error = place.deserialize(serde_yaml::Deserializer::from_str(text)).err();
    // The library gives no location where it is the first of the document.
    error.and_then(|error| error.location()).map_or(Position { line: 1, column: 1 }, |location| {
        Position { line: location.line(), column: location.column() }
    })
}

/// Adds its position to a message about the value below `keys`, for errors found after reading.
#[must_use]
pub fn message_at(text: &str, keys: &[&str], message: &str) -> String {
    let seed = Place { keys, message, at_key: false };
    match seed.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(()) => format!("{}: {message}", keys.join(".")),
        Err(error) => positioned(error),
    }
}

/// Completes an error whose position serde_yaml leaves out because it is the first of the document.
#[allow(clippy::needless_pass_by_value)] // map_err passes it by value
fn positioned(error: serde_yaml::Error) -> String {
    let text = with_nearest_key(error.to_string());
    if text.contains(" line ") { text } else { format!("{text} at line 1 column 1") }
}

/// Adds to the error about an unknown key which valid key was probably meant, if one is near.
fn with_nearest_key(text: String) -> String {
    let nearest = || {
        let (_, rest) = text.split_once("unknown field `")?;
        let (unknown, valid) = rest.split_once("`, expected ")?;
        // Every second part is between backticks.
        let valid = valid.split('`').skip(1).step_by(2);
        let by_distance = valid.map(|key| (strsim::damerau_levenshtein(unknown, key), key));
        let (distance, key) = by_distance.min()?;
        (distance <= unknown.len().max(key.len()) / 3).then_some((unknown, key))
    };
    let Some((unknown, key)) = nearest() else { return text };
    let said = format!("unknown field `{unknown}`");
    text.replacen(&said, &format!("{said} (did you mean `{key}`?)"), 1)
}

/// Fails at the value below `keys`, so that the reader reports the position of that value.
#[derive(Clone, Copy)]
struct Place<'a> {
    keys: &'a [&'a str],
    message: &'a str,
    /// Fails at the last key instead of at its value.
    at_key: bool,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, keys)) = self.keys.split_first() else {
            return Err(A::Error::custom(self.message));
        };
        let refused = (self.at_key && keys.is_empty()).then_some(*wanted);
        while let Some(key) = map.next_key_seed(Key { refused, message: self.message })? {
            if key == *wanted {
                map.next_value_seed(Place { keys, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Some((wanted, keys)) = self.keys.split_first() else {
            return Err(A::Error::custom(self.message));
        };
        let index: usize = wanted.parse().map_err(|_| A::Error::custom(self.message))?;
        for _ in 0..index {
            sequence.next_element::<IgnoredAny>()?;
        }
        sequence.next_element_seed(Place { keys, ..self })?;
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Err(E::custom(self.message))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Err(E::custom(self.message))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Err(E::custom(self.message))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Err(E::custom(self.message))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom(self.message))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Err(E::custom(self.message))
    }
}

/// Reads a key, and fails at the refused one.
struct Key<'a> {
    refused: Option<&'a str>,
    message: &'a str,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if self.refused == Some(key) { Err(E::custom(self.message)) } else { Ok(key.to_owned()) }
    }
}

/// A scalar read by `FromStr` while the reader knows its position. The error of `FromStr` names the
/// value.
#[derive(Debug)]
pub struct Word<T>(pub T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar<T>(PhantomData<T>);
        impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Scalar<T> {
            type Value = Word<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a word")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word<T>, E> {
                text.parse().map(Word).map_err(E::custom)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Word<T>, E> {
                self.visit_str(if value { "true" } else { "false" })
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Word<T>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Word<T>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Word<T>, E> {
                Err(E::invalid_type(Unexpected::Float(number), &self))
            }
        }
        deserializer.deserialize_any(Scalar(PhantomData))
    }
}

/// Names with their values, in the order of the document. A duplicate name is an error.
#[derive(Debug, Default)]
pub struct Pairs<V = String>(pub Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Map<V> {
            type Value = Pairs<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("names with values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs: Vec<(String, V)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if pairs.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("duplicate name {name:?}")));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Map(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_found_after_reading() {
        let text = "a:\n  b: 1\n  c: [x]\nd: {e: word, f: ~}\n";
        let table: [(&[&str], &str); 6] = [
            (&["a", "b"], "a.b: odd at line 2 column 6"),
            (&["a", "c"], "odd at line 3 column"),
            (&["d", "e"], "odd at line 4 column 8"),
            (&["d", "f"], "odd at line 4 column 17"),
            (&["d"], "odd at line 4"),
            (&["d", "none"], "d.none: odd"),
        ];
        for (keys, expected) in table {
            let message = message_at(text, keys, "odd");
            assert!(message.contains(expected), "{keys:?}: {message}");
        }
    }

    #[test]
    fn keys_and_elements_have_positions() {
        let text = "# c\nmetrics: {a: 1}\nhaproxys:\n- name: x\n- {name: y}\nend:\n";
        assert_eq!(keys(text), ["metrics", "haproxys", "end"]);
        let table: [(&str, &str); 3] = [
            ("metrics", "line 2 column 1"),
            ("haproxys", "line 3 column 1"),
            ("end", "line 6 column 1"),
        ];
        for (key, expected) in table {
            assert_eq!(key_position(text, key).to_string(), expected, "{key}");
        }
        let table: [(&[&str], &str); 3] = [
            (&["haproxys", "0", "name"], "line 4 column 9"),
            (&["haproxys", "1", "name"], "line 5 column 10"),
            (&["haproxys", "7", "name"], "line 1 column 1"),
        ];
        for (keys, expected) in table {
            assert_eq!(value_position(text, keys).to_string(), expected, "{keys:?}");
        }
        assert_eq!(key_position("a: 1\n", "a").to_string(), "line 1 column 1");
        assert_eq!(keys(""), [""; 0]);
    }

    #[test]
    fn a_name_occurs_once() {
        let pairs: Pairs = parse("a: 1\nb: true\n").unwrap().unwrap();
        assert_eq!(pairs.0, [("a".into(), "1".into()), ("b".into(), "true".into())]);
        let twice = parse::<Pairs>("a: 1\na: 2\n").unwrap_err();
        assert!(twice.contains("duplicate name \"a\""), "{twice}");
    }
}
