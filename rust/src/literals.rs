//! From values of Rust to literals of the language: names, strings, numbers and lists.
//!
//! What always holds: whatever goes in comes out of the language's parser unchanged, or is refused (22021 for
//! text that no database can store, 22023 for what is no value of an option).

use crate::error::{Error, Result};

/// A value of an option, as the language has them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OptionValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// A text.
    Text(String),
    /// A list of any of those above.
    List(Vec<OptionValue>),
    /// JSON, which is how `feature_ranges` and `search` are written.
    Json(serde_json::Value),
}

impl From<bool> for OptionValue {
    fn from(value: bool) -> Self {
        OptionValue::Boolean(value)
    }
}

impl From<i32> for OptionValue {
    fn from(value: i32) -> Self {
        OptionValue::Integer(value.into())
    }
}

impl From<u32> for OptionValue {
    fn from(value: u32) -> Self {
        OptionValue::Integer(value.into())
    }
}

impl From<i64> for OptionValue {
    fn from(value: i64) -> Self {
        OptionValue::Integer(value)
    }
}

impl From<f64> for OptionValue {
    fn from(value: f64) -> Self {
        OptionValue::Number(value)
    }
}

impl From<&str> for OptionValue {
    fn from(value: &str) -> Self {
        OptionValue::Text(value.to_owned())
    }
}

impl From<String> for OptionValue {
    fn from(value: String) -> Self {
        OptionValue::Text(value)
    }
}

impl From<serde_json::Value> for OptionValue {
    fn from(value: serde_json::Value) -> Self {
        OptionValue::Json(value)
    }
}

impl<T: Into<OptionValue>> From<Vec<T>> for OptionValue {
    fn from(values: Vec<T>) -> Self {
        OptionValue::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<OptionValue>, const N: usize> From<[T; N]> for OptionValue {
    fn from(values: [T; N]) -> Self {
        OptionValue::List(values.into_iter().map(Into::into).collect())
    }
}

/// Options by name, in the order in which they were given; the last value of a name is the one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options(Vec<(String, OptionValue)>);

impl Options {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<OptionValue>) {
        let name = name.into();
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value.into()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `(name = value, …)`.
    pub(crate) fn written(&self) -> Result<String> {
        let listed: Result<Vec<String>> = self
            .0
            .iter()
            .map(|(option, value)| Ok(format!("{} = {}", name(option, "an option's name")?, literal(option, value)?)))
            .collect();
        Ok(format!("({})", listed?.join(", ")))
    }
}

/// An identifier, always quoted. `what`: what it names, for the error.
pub(crate) fn name(value: &str, what: &str) -> Result<String> {
    Ok(format!("\"{}\"", storable(value, what)?.replace('"', "\"\"")))
}

/// A string literal.
pub(crate) fn string(value: &str, what: &str) -> Result<String> {
    Ok(format!("'{}'", storable(value, what)?.replace('\'', "''")))
}

/// Text that a database can hold.
pub(crate) fn storable<'a>(value: &'a str, what: &str) -> Result<&'a str> {
    if value.contains('\0') {
        return Err(Error::new("22021", format!("{what} holds a character that no text of a database can hold")));
    }
    Ok(value)
}

/// An option's value as the language writes it.
pub(crate) fn literal(option: &str, value: &OptionValue) -> Result<String> {
    match value {
        OptionValue::Json(json) => string(&json.to_string(), &called(option)),
        OptionValue::List(values) => {
            let listed: Result<Vec<String>> = values.iter().map(|value| scalar(option, value)).collect();
            Ok(format!("[{}]", listed?.join(", ")))
        }
        _ => scalar(option, value),
    }
}

fn scalar(option: &str, value: &OptionValue) -> Result<String> {
    match value {
        OptionValue::Boolean(value) => Ok(value.to_string()),
        OptionValue::Integer(value) => Ok(value.to_string()),
        OptionValue::Number(value) if value.is_finite() => Ok(format!("{value:?}")),
        OptionValue::Number(value) => {
            Err(Error::invalid(format!("{} must be a finite number, not {value}", called(option))))
        }
        OptionValue::Text(value) => string(value, &called(option)),
        OptionValue::List(_) | OptionValue::Json(_) => {
            Err(Error::invalid(format!("an element of {} cannot be a list or JSON", called(option)))
                .with_detail("An element is a string, a number or a boolean."))
        }
    }
}

fn called(option: &str) -> String {
    format!("option \"{option}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(value: impl Into<OptionValue>) -> String {
        literal("x", &value.into()).unwrap()
    }

    fn refused(value: impl Into<OptionValue>) -> (String, String) {
        let error = literal("x", &value.into()).unwrap_err();
        (error.sqlstate().to_owned(), error.message().to_owned())
    }

    #[test]
    fn values_are_written_as_the_language_has_them() {
        assert_eq!(written(0.1), "0.1");
        assert_eq!(written(-3), "-3");
        assert_eq!(written(3.0), "3.0");
        assert_eq!(written(1e22), "1e22");
        assert_eq!(written(-0.0), "-0.0");
        assert_eq!(written(5e-324), "5e-324");
        assert_eq!(written(i64::MIN), "-9223372036854775808");
        assert_eq!(written(true), "true");
        assert_eq!(written([1.5, 2.0]), "[1.5, 2.0]");
        assert_eq!(written(vec!["a", "b"]), "['a', 'b']");
        assert_eq!(written(json!({"age": [0, 100]})), "'{\"age\":[0,100]}'");
        assert_eq!(written(Vec::<String>::new()), "[]");
    }

    #[test]
    fn no_text_gets_out_of_its_quotes() {
        assert_eq!(string("x'); DROP TABLE p; --", "it").unwrap(), "'x''); DROP TABLE p; --'");
        assert_eq!(name("a\"; DROP TABLE p; --", "it").unwrap(), "\"a\"\"; DROP TABLE p; --\"");
        assert_eq!(string("\\'; --", "it").unwrap(), "'\\''; --'");
        assert_eq!(written(json!({"it's": 1})), "'{\"it''s\":1}'");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert_eq!(refused(f64::NAN).0, "22023");
        assert!(refused(f64::NEG_INFINITY).1.contains("must be a finite number, not -inf"));
        assert_eq!(refused([1.0, f64::INFINITY]).0, "22023");
        assert_eq!(refused(vec![vec!["a"]]).0, "22023");
        assert_eq!(refused("a\0b").0, "22021");
        assert_eq!(name("a\0b", "the name of a model").unwrap_err().sqlstate(), "22021");
    }

    #[test]
    fn the_last_value_of_an_option_is_the_one() {
        let mut options = Options::default();
        options.set("rounds", 3);
        options.set("weird \"name\"", "y");
        options.set("rounds", 5);
        assert_eq!(options.written().unwrap(), "(\"weird \"\"name\"\"\" = 'y', \"rounds\" = 5)");
    }
}
