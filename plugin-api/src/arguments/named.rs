//! Arguments by name: an object in place of the list, `greet {"who": "Ada"}`.
//!
//! An object is the one argument of a command that takes objects, as it always was. So names are read only for a command
//! whose first argument is known to exclude objects. The list stays the canonical form.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{ArgumentList, ListPosition, Misread, Signature};
use crate::exact::{Exact, Numbers};
use crate::misfit;

/// The longest name in a message (characters).
const NAME_CHARS_MAX: usize = 64;

/// Reads the members of an object as the arguments of these names.
///
/// # Errors
/// [`Misread`], with a text that names the argument.
pub(super) fn read<'de, L: ArgumentList<'de>>(
    text: &'de str,
    signature: &Signature,
) -> Result<L, Misread> {
    let Ok(NamedArguments(members)) = serde_json::from_str(text) else {
        return Err(Misread::NotJson);
    };
    let mut list = Ordered::of(members, signature).map_err(Misread::Bad)?;
    let place = ListPosition::default();
    let read = L::take(&mut list, &place);
    read.map_err(|error| {
        // The element that was read last; one for each element of a rest.
        let at = list.at.saturating_sub(1);
        let (index, text) = list.values.get(at).copied().unwrap_or_default();
        let (name, type_name) = signature.arguments.get(index).copied().unwrap_or_default();
        let name = name.trim_start_matches('.').trim_end_matches('?');
        let (path, what) = misfit::parts(&error, text);
        let at = match path.as_str() {
            "" => path,
            path => format!(", at {path}"),
        };
        Misread::Bad(format!("argument {name} ({name}: {type_name}){at}: {what}"))
    })
}

/// The members of an object, in its order.
struct NamedArguments<'de>(Vec<(Cow<'de, str>, &'de RawValue)>);

impl<'de> Deserialize<'de> for NamedArguments<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = NamedArguments<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of arguments")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((super::Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(NamedArguments(members))
            }
        }

        deserializer.deserialize_map(All)
    }
}

/// The arguments in the order of the signature, each with the index of its place there.
struct Ordered<'de> {
    values: Vec<(usize, &'de str)>,
    at: usize,
}

impl<'de> Ordered<'de> {
    fn of(
        members: Vec<(Cow<'de, str>, &'de RawValue)>,
        signature: &Signature,
    ) -> Result<Self, String> {
        let given = by_place(members, signature)?;
        let mut values = Vec::new();
        let last = given
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |last| last + 1);
        for (index, ((name, _), value)) in signature.arguments.iter().zip(given).enumerate() {
            match value {
                Some(value) if name.starts_with("...") => {
                    let more: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| {
                        format!(
                            "the argument {} takes an array of all that are left",
                            plain(name)
                        )
                    })?;
                    values.extend(more.into_iter().map(|one| (index, one.get())));
                }
                Some(value) => values.push((index, value.get())),
                None if name.ends_with('?') || name.starts_with("...") => {
                    if index < last {
                        values.push((index, "null"));
                    }
                }
                None => {
                    return Err(format!(
                        "the argument {name} is missing; it takes {}",
                        signature.spoken()
                    ));
                }
            }
        }
        Ok(Ordered { values, at: 0 })
    }
}

/// Returns the member for each place of the signature.
fn by_place<'de>(
    members: Vec<(Cow<'de, str>, &'de RawValue)>,
    signature: &Signature,
) -> Result<Vec<Option<&'de RawValue>>, String> {
    let mut given: Vec<Option<&'de RawValue>> = vec![None; signature.arguments.len()];
    for (name, value) in members {
        let mut places = signature.arguments.iter().zip(&mut given);
        let Some((_, place)) = places.find(|((of, _), _)| plain(of) == name) else {
            return Err(unknown(&name, signature));
        };
        if place.replace(value).is_some() {
            return Err(format!("the argument {name} is given twice; send it once"));
        }
    }
    Ok(given)
}

/// Returns the name in a signature, without the marks of an optional argument and of a rest.
fn plain(name: &str) -> &str {
    name.trim_start_matches("...").trim_end_matches('?')
}

fn unknown(name: &str, signature: &Signature) -> String {
    let name = misfit::shortened(name, NAME_CHARS_MAX);
    let is_near = |of: &&str| of.starts_with(&*name) || strsim::osa_distance(of, &name) == 1;
    let mut names = signature.arguments.iter().map(|(of, _)| plain(of));
    match names.find(is_near) {
        Some(near) => format!("there is no argument {name}; did you mean {near}?"),
        None => format!(
            "there is no argument {name}; it takes {}",
            signature.spoken()
        ),
    }
}

impl<'de> SeqAccess<'de> for Ordered<'de> {
    type Error = serde_json::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        let Some((_, text)) = self.values.get(self.at).copied() else {
            return Ok(None);
        };
        self.at += 1;
        let numbers = Numbers::of(text);
        let mut json = serde_json::Deserializer::from_str(text);
        let value = seed.deserialize(Exact::new(&mut json, &numbers))?;
        json.end().map_err(serde_json::Error::custom)?;
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Optional, Required, Rest, Text, read};
    use super::*;

    const SIGNATURE: Signature = Signature {
        arguments: &[
            ("who", "string"),
            ("times?", "integer from 0"),
            ("...tags", "string"),
        ],
        takes_names: true,
    };

    type Taken<'a> = (Required<Text<'a>>, Optional<u8>, Rest<String>);

    fn greet(text: &str) -> Result<(String, Option<u8>, Vec<String>), String> {
        match read::<Taken<'_>>(text, &SIGNATURE) {
            Ok((Required(Text(who)), Optional(times), Rest(tags))) => {
                Ok((who.into_owned(), times, tags))
            }
            Err(Misread::Bad(text)) => Err(text),
            Err(Misread::NotJson) => Err("not json".to_owned()),
        }
    }

    #[test]
    fn an_object_names_the_arguments_in_any_order() {
        let ada = |times, tags: &[&str]| {
            Ok((
                "Ada".to_owned(),
                times,
                tags.iter().map(ToString::to_string).collect(),
            ))
        };
        assert_eq!(greet(r#"{"who": "Ada"}"#), ada(None, &[]));
        assert_eq!(greet(r#"{"times": 2, "who": "Ada"}"#), ada(Some(2), &[]));
        assert_eq!(
            greet(r#"{"tags": ["a", "b"], "who": "\u0041da"}"#),
            ada(None, &["a", "b"])
        );
        assert_eq!(greet(r#"["Ada", 2, "a"]"#), ada(Some(2), &["a"]));
    }

    #[test]
    fn each_error_names_its_argument() {
        for (given, said) in [
            ("{}", "the argument who is missing; it takes 3 arguments"),
            (
                r#"{"who":"Ada","who":"Bob"}"#,
                "the argument who is given twice",
            ),
            (
                r#"{"woh":"Ada"}"#,
                "there is no argument woh; did you mean who?",
            ),
            (
                r#"{"who":"Ada","time":1}"#,
                "there is no argument time; did you mean times?",
            ),
            (
                r#"{"who":"Ada","x":1}"#,
                "there is no argument x; it takes 3 arguments",
            ),
            (
                r#"{"who":"Ada","times":-1}"#,
                "argument times (times: integer from 0): expected a number, whole",
            ),
            (
                r#"{"who":["Ada"]}"#,
                "argument who (who: string): expected a string, got an array",
            ),
            (
                r#"{"who":"Ada","tags":"a"}"#,
                "the argument tags takes an array",
            ),
            (r#"{"who":"Ada""#, "not json"),
        ] {
            let error = greet(given).expect_err(given);
            assert!(error.starts_with(said), "{given}: {error}");
        }
    }

    #[test]
    fn an_object_stays_the_argument_of_a_command_that_takes_objects() {
        const OBJECT: Signature = Signature {
            arguments: &[("value", "any")],
            takes_names: false,
        };
        let read = read::<(Required<serde_json::Value>,)>(r#"{"value": 1}"#, &OBJECT);
        let Ok((Required(value),)) = read else {
            panic!("it is read");
        };
        assert_eq!(value, serde_json::json!({"value": 1}));
    }
}
