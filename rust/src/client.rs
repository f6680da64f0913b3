//! The connection as users have it, and workspaces: a handle is a name and nothing else, each call asks anew.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, NoTls, Socket};

use crate::error::{Error, Result};
use crate::literals::{OptionValue, Options};
use crate::model::Model;
use crate::records::{Budget, ModelInfo, Node, Run, WorkspaceStatus};
use crate::session::{Notice, Session};
use crate::statements;

const LARGEST_CERTIFICATE: u64 = 65_536;

/// Federated learning in a coordinator's database.
///
/// Clones share one connection, and their requests take turns at it. What a call may do is what the database
/// role of the connection may. A connection that was lost is not opened again: each call on it is error 08006.
#[derive(Clone)]
pub struct FederatedLearning {
    pub(crate) session: Arc<Session>,
}

impl FederatedLearning {
    /// Connects, without TLS, by a connection string or URL as [`tokio_postgres::Config`] reads it; libpq's
    /// environment and `~/.pgpass` are not looked at.
    ///
    /// # Errors
    /// 22023 for what is no connection string, 08001 where the server is not reached (`sslmode=require`: it asks
    /// for TLS, see [`connect_with`](Self::connect_with)), 3F000 where the extension is not in the database.
    pub async fn connect(dsn: &str) -> Result<Self> {
        // The driver's words for what is wrong may hold a piece of a password.
        let config = dsn.parse::<Config>().map_err(|_| {
            Error::invalid("this is no connection string that the driver knows")
                .with_hint("Write postgresql://user@host:port/database, or host=… port=… user=… dbname=….")
        })?;
        Self::connect_with(&config, NoTls).await
    }

    /// Connects with settings and TLS of the caller's: whatever implements the driver's `MakeTlsConnect`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with<T>(config: &Config, tls: T) -> Result<Self>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        Ok(FederatedLearning { session: Arc::new(Session::open(config, tls).await?) })
    }

    /// Executes a statement of the language as it is; a table that it names is named with its schema.
    ///
    /// # Errors
    /// The statement's own, as in SQL.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        self.session.perform(statement).await
    }

    /// The workspace of a name; whether there is one is seen when something is asked of it.
    pub fn workspace(&self, name: &str) -> FederatedWorkspace {
        FederatedWorkspace { session: Arc::clone(&self.session), name: name.to_owned() }
    }

    /// The model of a name; whether there is one is seen when something is asked of it.
    pub fn model(&self, name: &str) -> Model {
        Model::of(Arc::clone(&self.session), name)
    }

    /// Every workspace that the role sees, and how it stands.
    ///
    /// # Errors
    /// 42501 without the right.
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceStatus>> {
        self.session.list(include_str!("sql/list_workspaces.sql"), &[&None::<&str>]).await
    }

    /// WARNINGs and NOTICEs of the server's since the last call of this, oldest first; of more than a hundred
    /// the last hundred.
    pub fn take_notices(&self) -> Vec<Notice> {
        self.session.take_notices()
    }
}

/// One workspace.
#[derive(Clone)]
pub struct FederatedWorkspace {
    pub(crate) session: Arc<Session>,
    name: String,
}

impl FederatedWorkspace {
    /// Begins CREATE FEDERATED WORKSPACE.
    pub fn builder(name: impl Into<String>) -> WorkspaceBuilder {
        WorkspaceBuilder { name: name.into(), options: Options::default(), if_not_exists: false }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// REGISTER FEDERATED NODE; returns the node as it is then. Needs federated_admin. The coordinator then
    /// shakes hands with it: [`nodes`](Self::nodes) says how that went.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn register_node(&self, node: NodeConfig) -> Result<Node> {
        self.session.perform(&node.statement(&self.name)?).await?;
        let found = self.nodes().await?;
        let missing = || Error::new("42704", format!("federated node \"{}\" does not exist", node.name));
        found.into_iter().find(|one| one.node_name == node.name).ok_or_else(missing)
    }

    /// UNREGISTER FEDERATED NODE.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn unregister_node(&self, node: &str) -> Result<()> {
        self.session.perform(&statements::unregister_node(node, &self.name)?).await
    }

    /// How it stands.
    ///
    /// # Errors
    /// 42704 where there is none of the name.
    pub async fn status(&self) -> Result<WorkspaceStatus> {
        let found = self.session.list(include_str!("sql/list_workspaces.sql"), &[&self.name]).await?;
        let missing = || Error::new("42704", format!("federated workspace \"{}\" does not exist", self.name));
        found.into_iter().next().ok_or_else(missing)
    }

    /// Its nodes and how they take part; none where there is no such workspace.
    ///
    /// # Errors
    /// 42501 without the right.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        self.session.list(include_str!("sql/list_nodes.sql"), &[&self.name]).await
    }

    /// Its models; none where there is no such workspace.
    ///
    /// # Errors
    /// 42501 without the right.
    pub async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.session.list(include_str!("sql/list_models.sql"), &[&Some(&self.name), &None::<&str>]).await
    }

    /// The runs of its models in the order of START; none where there is no such workspace.
    ///
    /// # Errors
    /// 42501 without the right.
    pub async fn runs(&self) -> Result<Vec<Run>> {
        self.session.list(include_str!("sql/list_runs.sql"), &[&Some(&self.name), &None::<&str>]).await
    }

    /// What it may spend and has spent.
    ///
    /// # Errors
    /// 42704 where there is no such workspace.
    pub async fn budget(&self) -> Result<Budget> {
        let found = self.session.list(include_str!("sql/read_budget.sql"), &[&self.name]).await?;
        found.into_iter().next().ok_or_else(|| Error::new("XX000", "the budget has no row"))
    }

    /// ALTER FEDERATED WORKSPACE … SET one option.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn set(&self, option: &str, value: impl Into<OptionValue>) -> Result<()> {
        let mut options = Options::default();
        options.set(option, value);
        self.session.perform(&statements::alter_workspace(&self.name, &options)?).await
    }

    /// DROP FEDERATED WORKSPACE; with `cascade` its models go too.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn drop(self, cascade: bool) -> Result<()> {
        self.session.perform(&statements::drop_workspace(&self.name, cascade)?).await
    }
}

/// CREATE FEDERATED WORKSPACE, as it is being put together.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `create`"]
pub struct WorkspaceBuilder {
    name: String,
    options: Options,
    if_not_exists: bool,
}

impl WorkspaceBuilder {
    /// How many nodes a round needs.
    pub fn min_nodes(self, nodes: u32) -> Self {
        self.option("min_nodes", nodes)
    }

    /// What may be spent, in ε.
    pub fn privacy_budget(self, epsilon: f64) -> Self {
        self.option("privacy_budget", epsilon)
    }

    /// The δ that comes with the budget.
    pub fn delta(self, delta: f64) -> Self {
        self.option("delta", delta)
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
    pub fn statement(&self) -> Result<String> {
        statements::create_workspace(&self.name, &self.options, self.if_not_exists)
    }

    /// Creates it; needs federated_admin.
    ///
    /// # Errors
    /// The statement's own.
    pub async fn create(self, fl: &FederatedLearning) -> Result<FederatedWorkspace> {
        fl.session.perform(&self.statement()?).await?;
        Ok(fl.workspace(&self.name))
    }
}

/// A node as it is registered.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    name: String,
    options: Options,
}

impl NodeConfig {
    /// endpoint: `https://host:port`.
    pub fn new(name: impl Into<String>, endpoint: impl Into<String>) -> Self {
        let mut options = Options::default();
        options.set("endpoint", endpoint.into());
        NodeConfig { name: name.into(), options }
    }

    /// The node's certificate, as PEM text or as a path on the database server.
    #[must_use]
    pub fn certificate(self, certificate: impl Into<String>) -> Self {
        self.option("certificate", certificate.into())
    }

    /// The node's certificate, from a file on this machine.
    ///
    /// # Errors
    /// 58030 where it cannot be read, 22023 where it is larger than 64 KiB.
    pub fn certificate_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let mut pem = String::new();
        let read = File::open(&path).and_then(|file| file.take(LARGEST_CERTIFICATE + 1).read_to_string(&mut pem));
        let length = read.map_err(|error| {
            let detail = format!("{}: {error}.", path.as_ref().display());
            Error::new("58030", "the certificate cannot be read").with_detail(detail)
        })?;
        if length as u64 > LARGEST_CERTIFICATE {
            return Err(Error::invalid("the certificate is larger than 64 KiB"));
        }
        Ok(self.certificate(pem))
    }

    /// Any option of the language.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<OptionValue>) -> Self {
        self.options.set(name, value);
        self
    }

    /// The statement that registers it in a workspace.
    ///
    /// # Errors
    /// 22021 and 22023 for what cannot be written.
    pub fn statement(&self, workspace: &str) -> Result<String> {
        statements::register_node(&self.name, workspace, &self.options)
    }
}
