//! Models: creating, asking, versions. Training is in `training`, predicting in `prediction`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use crate::client::FederatedWorkspace;
use crate::error::{Error, Result};
use crate::literals::{OptionValue, Options};
use crate::prediction::Features;
use crate::records::{column, Budget, Coefficient, ModelInfo, Round, Run, Version};
use crate::session::Session;
use crate::statements;
use crate::training::{Training, TrainingConfig};

/// One model.
#[derive(Clone)]
pub struct Model {
    pub(crate) session: Arc<Session>,
    pub(crate) name: String,
}

impl Model {
    pub(crate) fn of(session: Arc<Session>, name: &str) -> Self {
        Model { session, name: name.to_owned() }
    }

    /// Begins CREATE FEDERATED MODEL.
    pub fn builder(name: impl Into<String>) -> ModelBuilder {
        ModelBuilder { name: name.into(), options: Options::default(), if_not_exists: false }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its workspace, owner and options.
    ///
    /// # Errors
    /// 42704 where there is none of the name.
    pub async fn info(&self) -> Result<ModelInfo> {
        let found = self.session.list(include_str!("sql/list_models.sql"), &[&None::<&str>, &Some(&self.name)]).await?;
        let missing = || Error::new("42704", format!("federated model \"{}\" does not exist", self.name));
        found.into_iter().next().ok_or_else(missing)
    }

    /// START FEDERATED TRAINING; needs federated_operator. Comes back when the run is queued: the
    /// [`Training`] follows it. What the configuration does not say is the model's own option.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn train(&self, config: TrainingConfig) -> Result<Training> {
        Training::start(self, &config).await
    }

    /// Follows the latest run, or the series that it is of, whoever started it.
    ///
    /// # Errors
    /// 42704 where there is no such model, 55000 where it has never been in training.
    pub async fn training(&self) -> Result<Training> {
        Training::latest(self).await
    }

    /// STOP FEDERATED TRAINING.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn stop(&self) -> Result<()> {
        self.session.perform(&statements::stop_training(&self.name)?).await
    }

    /// The latest run that has had its turn and how it stands; `None` where there was none.
    ///
    /// # Errors
    /// 42704 where there is no such model.
    pub async fn status(&self) -> Result<Option<Run>> {
        self.info().await?;
        let found = self.runs().await?;
        Ok(found.into_iter().rfind(|run| run.status != "waiting"))
    }

    /// Its runs in the order of START; none where there is no such model.
    ///
    /// # Errors
    /// 42501 without the right.
    pub async fn runs(&self) -> Result<Vec<Run>> {
        self.session.list(include_str!("sql/list_runs.sql"), &[&None::<&str>, &Some(&self.name)]).await
    }

    /// The rounds of a run by its number in [`runs`](Self::runs), or of the latest.
    ///
    /// # Errors
    /// 42704 where there is no such model or run.
    pub async fn history(&self, run: Option<i32>) -> Result<Vec<Round>> {
        self.session.list(include_str!("sql/list_rounds.sql"), &[&self.name, &run]).await
    }

    /// Its versions.
    ///
    /// # Errors
    /// 42704 where there is no such model.
    pub async fn versions(&self) -> Result<Vec<Version>> {
        self.session.list(include_str!("sql/list_versions.sql"), &[&self.name]).await
    }

    /// The version of a tag or a number, for predictions, figures and coefficients.
    pub fn at(&self, version: impl Display) -> ModelVersion {
        ModelVersion { session: Arc::clone(&self.session), reference: format!("{}@{version}", self.name) }
    }

    /// The current version, whichever that is when something is asked of it.
    pub fn current(&self) -> ModelVersion {
        ModelVersion { session: Arc::clone(&self.session), reference: self.name.clone() }
    }

    /// [`ModelVersion::predict`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub async fn predict(&self, features: impl Into<Features>) -> Result<f64> {
        self.current().predict(features).await
    }

    /// [`ModelVersion::predict_many`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub async fn predict_many<F: Into<Features>>(&self, rows: impl IntoIterator<Item = F>) -> Result<Vec<f64>> {
        self.current().predict_many(rows).await
    }

    /// [`ModelVersion::predict_probabilities`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub async fn predict_probabilities<F: Into<Features>>(
        &self,
        rows: impl IntoIterator<Item = F>,
    ) -> Result<Vec<BTreeMap<String, f64>>> {
        self.current().predict_probabilities(rows).await
    }

    /// [`ModelVersion::coefficients`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub async fn coefficients(&self) -> Result<Vec<Coefficient>> {
        self.current().coefficients().await
    }

    /// [`ModelVersion::evaluate`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub async fn evaluate(&self) -> Result<BTreeMap<String, Option<f64>>> {
        self.current().evaluate().await
    }

    /// What its workspace may spend and has spent.
    ///
    /// # Errors
    /// 42704 where there is no such model.
    pub async fn budget(&self) -> Result<Budget> {
        let known = self.info().await?;
        let found = self.session.list(include_str!("sql/read_budget.sql"), &[&known.workspace_name]).await?;
        found.into_iter().next().ok_or_else(|| Error::new("XX000", "the budget has no row"))
    }

    /// TAG FEDERATED MODEL: the current version or one by number; `replace` moves the tag of another.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn tag(&self, tag: &str, version: Option<i64>, replace: bool) -> Result<()> {
        self.session.perform(&statements::tag_model(&self.name, tag, version, replace)?).await
    }

    /// PROMOTE FEDERATED MODEL: make the version of a tag or number the current one.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn promote(&self, version: impl Display) -> Result<()> {
        self.session.perform(&statements::promote_model(&self.name, &version.to_string())?).await
    }

    /// ALTER FEDERATED MODEL … SET one option.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn set(&self, option: &str, value: impl Into<OptionValue>) -> Result<()> {
        let mut options = Options::default();
        options.set(option, value);
        self.session.perform(&statements::alter_model(&self.name, &options)?).await
    }

    /// DROP FEDERATED MODEL; with `cascade` what depends on its functions goes too.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn drop(self, cascade: bool) -> Result<()> {
        self.session.perform(&statements::drop_model(&self.name, cascade)?).await
    }
}

/// One version of a model, by how functions name it: `model`, `model@tag` or `model@number`.
#[derive(Clone)]
pub struct ModelVersion {
    pub(crate) session: Arc<Session>,
    pub(crate) reference: String,
}

impl ModelVersion {
    /// The coefficients of a linear model; standard errors where trained by `optimizer = 'newton'`.
    ///
    /// # Errors
    /// 42704 where there is no such model or version.
    pub async fn coefficients(&self) -> Result<Vec<Coefficient>> {
        self.session.list(include_str!("sql/list_coefficients.sql"), &[&self.reference]).await
    }

    /// How it did over the held-out rows of all nodes when it was made, by metric.
    ///
    /// # Errors
    /// 42704 where there is no such model or version.
    pub async fn evaluate(&self) -> Result<BTreeMap<String, Option<f64>>> {
        let rows = self.session.rows(include_str!("sql/read_evaluation.sql"), &[&self.reference]).await?;
        rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?))).collect()
    }
}

/// CREATE FEDERATED MODEL, as it is being put together.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `create`"]
pub struct ModelBuilder {
    name: String,
    options: Options,
    if_not_exists: bool,
}

impl ModelBuilder {
    /// `logistic_regression`, `random_forest` …
    pub fn algorithm(self, algorithm: &str) -> Self {
        self.option("algorithm", algorithm)
    }

    /// Columns of the nodes' datasets.
    pub fn features<T: Into<String>>(self, features: impl IntoIterator<Item = T>) -> Self {
        let listed: Vec<String> = features.into_iter().map(Into::into).collect();
        self.option("features", listed)
    }

    /// The column that is predicted.
    pub fn target(self, target: &str) -> Self {
        self.option("target", target)
    }

    /// Any option of the language.
    pub fn option(mut self, name: &str, value: impl Into<OptionValue>) -> Self {
        self.options.set(name, value);
        self
    }

    /// Is content with one that is there.
    pub fn if_not_exists(mut self) -> Self {
        self.if_not_exists = true;
        self
    }

    /// The statement that `create` executes.
    ///
    /// # Errors
    /// 22021 and 22023 for what cannot be written.
    pub fn statement(&self, workspace: &str) -> Result<String> {
        statements::create_model(&self.name, workspace, &self.options, self.if_not_exists)
    }

    /// Creates it in a workspace; needs federated_operator.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn create(self, workspace: &FederatedWorkspace) -> Result<Model> {
        workspace.session.perform(&self.statement(workspace.name())?).await?;
        Ok(Model::of(Arc::clone(&workspace.session), &self.name))
    }
}
