//! The statements of the language, with their names and values quoted.

use crate::error::{Error, Result};
use crate::literals::{name, string, Options};

const WORKSPACE: &str = "the name of a workspace";
const NODE: &str = "the name of a node";
const MODEL: &str = "the name of a model";

pub(crate) fn create_workspace(workspace: &str, options: &Options, if_not_exists: bool) -> Result<String> {
    joined(&["CREATE FEDERATED WORKSPACE", unless(if_not_exists), &name(workspace, WORKSPACE)?, &with(options)?])
}

pub(crate) fn alter_workspace(workspace: &str, options: &Options) -> Result<String> {
    let (workspace, options) = (name(workspace, WORKSPACE)?, some(options)?.written()?);
    joined(&["ALTER FEDERATED WORKSPACE", &workspace, "SET", &options])
}

pub(crate) fn drop_workspace(workspace: &str, cascades: bool) -> Result<String> {
    joined(&["DROP FEDERATED WORKSPACE", &name(workspace, WORKSPACE)?, cascade(cascades)])
}

pub(crate) fn register_node(node: &str, workspace: &str, options: &Options) -> Result<String> {
    joined(&["REGISTER FEDERATED NODE", &string(node, NODE)?, &within(workspace)?, &with(options)?])
}

pub(crate) fn unregister_node(node: &str, workspace: &str) -> Result<String> {
    let (node, workspace) = (string(node, NODE)?, name(workspace, WORKSPACE)?);
    joined(&["UNREGISTER FEDERATED NODE", &node, "FROM WORKSPACE", &workspace])
}

pub(crate) fn create_model(model: &str, workspace: &str, options: &Options, if_not_exists: bool) -> Result<String> {
    joined(&[
        "CREATE FEDERATED MODEL",
        unless(if_not_exists),
        &name(model, MODEL)?,
        &within(workspace)?,
        &with(options)?,
    ])
}

pub(crate) fn alter_model(model: &str, options: &Options) -> Result<String> {
    let (model, options) = (name(model, MODEL)?, some(options)?.written()?);
    joined(&["ALTER FEDERATED MODEL", &model, "SET", &options])
}

pub(crate) fn drop_model(model: &str, cascades: bool) -> Result<String> {
    joined(&["DROP FEDERATED MODEL", &name(model, MODEL)?, cascade(cascades)])
}

pub(crate) fn start_training(model: &str, options: &Options) -> Result<String> {
    joined(&["START FEDERATED TRAINING", &name(model, MODEL)?, &with(options)?])
}

pub(crate) fn stop_training(model: &str) -> Result<String> {
    joined(&["STOP FEDERATED TRAINING", &name(model, MODEL)?])
}

pub(crate) fn tag_model(model: &str, tag: &str, version: Option<i64>, replaces: bool) -> Result<String> {
    let number = version.map_or_else(String::new, |number| format!("VERSION {number}"));
    let replace = if replaces { "REPLACE" } else { "" };
    joined(&["TAG FEDERATED MODEL", &name(model, MODEL)?, &number, "AS", &string(tag, "a tag")?, replace])
}

pub(crate) fn promote_model(model: &str, version: &str) -> Result<String> {
    let (model, version) = (name(model, MODEL)?, string(version, "a version")?);
    joined(&["PROMOTE FEDERATED MODEL", &model, "VERSION", &version])
}

fn joined(parts: &[&str]) -> Result<String> {
    let given: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    Ok(given.join(" "))
}

fn unless(if_not_exists: bool) -> &'static str {
    if if_not_exists {
        "IF NOT EXISTS"
    } else {
        ""
    }
}

fn cascade(cascades: bool) -> &'static str {
    if cascades {
        "CASCADE"
    } else {
        ""
    }
}

fn within(workspace: &str) -> Result<String> {
    Ok(format!("IN WORKSPACE {}", name(workspace, WORKSPACE)?))
}

fn with(options: &Options) -> Result<String> {
    if options.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("WITH {}", options.written()?))
}

fn some(options: &Options) -> Result<&Options> {
    if options.is_empty() {
        return Err(Error::invalid("no option is named"));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds() -> Options {
        let mut options = Options::default();
        options.set("rounds", 3);
        options
    }

    #[test]
    fn statements_are_the_languages() {
        let none = Options::default();
        assert_eq!(create_workspace("w", &none, true).unwrap(), "CREATE FEDERATED WORKSPACE IF NOT EXISTS \"w\"");
        assert_eq!(
            create_model("m", "w", &rounds(), false).unwrap(),
            "CREATE FEDERATED MODEL \"m\" IN WORKSPACE \"w\" WITH (\"rounds\" = 3)"
        );
        assert_eq!(
            tag_model("m", "it's", Some(3), true).unwrap(),
            "TAG FEDERATED MODEL \"m\" VERSION 3 AS 'it''s' REPLACE"
        );
        assert_eq!(drop_model("m", true).unwrap(), "DROP FEDERATED MODEL \"m\" CASCADE");
        assert_eq!(start_training("m", &none).unwrap(), "START FEDERATED TRAINING \"m\"");
    }

    #[test]
    fn nothing_is_altered_to_nothing() {
        assert_eq!(alter_model("m", &Options::default()).unwrap_err().sqlstate(), "22023");
    }
}
