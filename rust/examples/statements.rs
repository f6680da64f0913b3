//! Writes a statement for each line of JSON: `{"name": …, "workspace": …, "options": {…}}`.
//!
//! Tests read what it writes with the language's own parser. A line that cannot be written is answered with its
//! SQLSTATE.

use std::io::{stdin, BufRead};

use heliosdb::{Model, NodeConfig, OptionValue};
use serde_json::{json, Value};

fn value(given: &Value) -> OptionValue {
    match given {
        Value::Bool(one) => (*one).into(),
        Value::Number(one) => one.as_i64().map_or_else(|| one.as_f64().unwrap_or(f64::NAN).into(), Into::into),
        Value::String(one) => one.as_str().into(),
        Value::Array(all) => OptionValue::List(all.iter().map(value).collect()),
        other => other.clone().into(),
    }
}

fn answer(line: &Value) -> heliosdb::Result<Value> {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let mut model = Model::builder(text("name"));
    let mut node = NodeConfig::new(text("name"), "https://node.example:8443");
    for (option, given) in line["options"].as_object().into_iter().flatten() {
        model = model.option(option, value(given));
        node = node.option(option, value(given));
    }
    Ok(json!([model.statement(text("workspace"))?, node.statement(text("workspace"))?]))
}

fn main() {
    for line in stdin().lock().lines() {
        let given: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        println!("{}", answer(&given).unwrap_or_else(|error| json!(error.sqlstate())));
    }
}
