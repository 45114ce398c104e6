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

/// Adds its position to a message about the value below `keys`, for errors found after reading.
#[must_use]
pub fn message_at(text: &str, keys: &[&str], message: &str) -> String {
    let seed = Place { keys, message };
    match seed.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(()) => format!("{}: {message}", keys.join(".")),
        Err(error) => positioned(error),
    }
}

/// Completes an error whose position serde_yaml leaves out because it is the first of the document.
#[allow(clippy::needless_pass_by_value)] // map_err passes it by value
fn positioned(error: serde_yaml::Error) -> String {
    let text = error.to_string();
    if text.contains(" line ") { text } else { format!("{text} at line 1 column 1") }
}

/// Fails at the value below `keys`, so that the reader reports the position of that value.
#[derive(Clone, Copy)]
struct Place<'a> {
    keys: &'a [&'a str],
    message: &'a str,
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
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                map.next_value_seed(Place { keys, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom(self.message))
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
pub struct Pairs(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Pairs;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("names with values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some((name, text)) = map.next_entry::<String, String>()? {
                    if pairs.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("duplicate name {name:?}")));
                    }
                    pairs.push((name, text));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Map)
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
    fn a_name_occurs_once() {
        let pairs: Pairs = parse("a: 1\nb: true\n").unwrap().unwrap();
        assert_eq!(pairs.0, [("a".into(), "1".into()), ("b".into(), "true".into())]);
        let twice = parse::<Pairs>("a: 1\na: 2\n").unwrap_err();
        assert!(twice.contains("duplicate name \"a\""), "{twice}");
    }
}
