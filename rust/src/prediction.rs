//! Predictions: one row, or some thousands in a statement; rows travel as JSON that is bound as a parameter.
//!
//! What always holds: which number is predicted is the server's business alone; a number arrives there as the
//! very float that it was, and what is no value of a feature, NaN and infinity among them, is refused (22023)
//! before anything is asked.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use tokio_postgres::types::FromSqlOwned;

use crate::error::{Error, Result};
use crate::literals::storable;
use crate::model::ModelVersion;
use crate::records::column;

const ROWS_A_STATEMENT: usize = 10_000;

/// A value of a feature.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FeatureValue {
    /// It is not known, and counts as at training.
    Missing,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// A text; a date, a time, an interval or a uuid as PostgreSQL reads it.
    Text(String),
    /// A list of finite numbers.
    List(Vec<f64>),
}

impl From<bool> for FeatureValue {
    fn from(value: bool) -> Self {
        FeatureValue::Boolean(value)
    }
}

impl From<i32> for FeatureValue {
    fn from(value: i32) -> Self {
        FeatureValue::Integer(value.into())
    }
}

impl From<i64> for FeatureValue {
    fn from(value: i64) -> Self {
        FeatureValue::Integer(value)
    }
}

impl From<f64> for FeatureValue {
    fn from(value: f64) -> Self {
        FeatureValue::Number(value)
    }
}

impl From<&str> for FeatureValue {
    fn from(value: &str) -> Self {
        FeatureValue::Text(value.to_owned())
    }
}

impl From<String> for FeatureValue {
    fn from(value: String) -> Self {
        FeatureValue::Text(value)
    }
}

impl From<Vec<f64>> for FeatureValue {
    fn from(value: Vec<f64>) -> Self {
        FeatureValue::List(value)
    }
}

impl<T: Into<FeatureValue>> From<Option<T>> for FeatureValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(FeatureValue::Missing, Into::into)
    }
}

/// One row's features by name; one that is not named is missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features(BTreeMap<String, FeatureValue>);

impl Features {
    /// None yet.
    pub fn new() -> Self {
        Features::default()
    }

    /// Names one; the last value of a name is the one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<FeatureValue>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    fn json(self) -> Result<Value> {
        let named: Result<Map<String, Value>> = self
            .0
            .into_iter()
            .map(|(name, value)| {
                storable(&name, "the name of a feature")?;
                let value = json(&name, value)?;
                Ok((name, value))
            })
            .collect();
        Ok(Value::Object(named?))
    }
}

impl<K: Into<String>, V: Into<FeatureValue>, const N: usize> From<[(K, V); N]> for Features {
    fn from(named: [(K, V); N]) -> Self {
        named.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<FeatureValue>> FromIterator<(K, V)> for Features {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(named: I) -> Self {
        Features(named.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl ModelVersion {
    /// Predicts for one row: the probability of the second class, or the value of a regression.
    ///
    /// # Errors
    /// 42703 for a name that is no feature, 42704 where there is no such model or version, 55000 before the
    /// first version and of a model of more than two classes, 22023 for what is no value of a feature.
    pub async fn predict(&self, features: impl Into<Features>) -> Result<f64> {
        let predicted = self.predict_many([features]).await?;
        predicted.into_iter().next().ok_or_else(|| Error::new("XX000", "the prediction has no row"))
    }

    /// Predicts for each row, in order, all by one version. Ten thousand rows go to the server in a statement.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub async fn predict_many<F: Into<Features>>(&self, rows: impl IntoIterator<Item = F>) -> Result<Vec<f64>> {
        self.ask(include_str!("sql/predict_many.sql"), rows).await
    }

    /// Predicts for each row the probability of every class by its label.
    ///
    /// # Errors
    /// As [`predict`](Self::predict); 55000 for a regression.
    pub async fn predict_probabilities<F: Into<Features>>(
        &self,
        rows: impl IntoIterator<Item = F>,
    ) -> Result<Vec<BTreeMap<String, f64>>> {
        let found: Vec<Value> = self.ask(include_str!("sql/predict_probabilities.sql"), rows).await?;
        found.into_iter().map(shares).collect()
    }

    async fn ask<T: FromSqlOwned, F: Into<Features>>(
        &self,
        query: &str,
        rows: impl IntoIterator<Item = F>,
    ) -> Result<Vec<T>> {
        let rows = rows.into_iter().map(|row| row.into().json()).collect::<Result<Vec<Value>>>()?;
        let length = rows.len();
        let parts: Vec<Value> = rows.chunks(ROWS_A_STATEMENT).map(|part| Value::Array(part.to_vec())).collect();
        drop(rows);
        loop {
            // Another version may become current between two statements: rows are predicted by one.
            let before = self.key().await?;
            let mut predicted = Vec::with_capacity(length);
            for part in &parts {
                for row in self.session.rows(query, &[&self.reference, part]).await? {
                    predicted.push(column(&row, 0)?);
                }
            }
            if parts.len() <= 1 || self.key().await? == before {
                return Ok(predicted);
            }
        }
    }

    /// What changes when the reference comes to mean other numbers.
    async fn key(&self) -> Result<Option<String>> {
        let rows = self.session.rows(include_str!("sql/describe_version.sql"), &[&self.reference]).await?;
        rows.first().map(|row| column(row, 0)).transpose()
    }
}

fn json(feature: &str, value: FeatureValue) -> Result<Value> {
    match value {
        FeatureValue::Missing => Ok(Value::Null),
        FeatureValue::Boolean(value) => Ok(Value::Bool(value)),
        FeatureValue::Integer(value) => Ok(Value::from(value)),
        FeatureValue::Number(value) => finite(feature, value),
        FeatureValue::Text(value) => {
            storable(&value, &format!("feature \"{feature}\""))?;
            Ok(Value::String(value))
        }
        FeatureValue::List(values) => values.into_iter().map(|value| finite(feature, value)).collect(),
    }
}

fn finite(feature: &str, value: f64) -> Result<Value> {
    Number::from_f64(value).map(Value::Number).ok_or_else(|| {
        Error::invalid(format!("feature \"{feature}\" is {value}, no finite number"))
            .with_hint("FeatureValue::Missing, or None, says that it is missing.")
    })
}

fn shares(found: Value) -> Result<BTreeMap<String, f64>> {
    serde_json::from_value(found)
        .map_err(|error| Error::new("XX000", "probabilities are no object of numbers").with_detail(format!("{error}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_jsons() {
        let row = Features::new()
            .with("age", 55)
            .with("bmi", 0.1)
            .with("sex", "f")
            .with("smokes", true)
            .with("unknown", None::<f64>)
            .with("curve", vec![1.0, 2.5]);
        let wanted = json!({"age": 55, "bmi": 0.1, "sex": "f", "smokes": true, "unknown": null, "curve": [1.0, 2.5]});
        assert_eq!(row.json().unwrap(), wanted);
        assert_eq!(Features::from([("age", 1e22)]).json().unwrap().to_string(), "{\"age\":1e22}");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for value in [f64::NAN, f64::INFINITY] {
            assert_eq!(Features::from([("age", value)]).json().unwrap_err().sqlstate(), "22023");
            assert_eq!(Features::from([("age", vec![value])]).json().unwrap_err().sqlstate(), "22023");
        }
        assert_eq!(Features::from([("sex", "f\0")]).json().unwrap_err().sqlstate(), "22021");
        assert_eq!(Features::from([("s\0", 1.0)]).json().unwrap_err().sqlstate(), "22021");
    }
}
