//! What calls give back: rows of the product's views and functions, by their columns' names.
//!
//! What always holds: a column that is NULL is `None`, and the reference page says what each column means.

use std::time::SystemTime;

use serde_json::Value;
use tokio_postgres::types::FromSql;
use tokio_postgres::Row;

use crate::error::{Error, Result};

/// Reads one row.
pub(crate) trait FromRow: Sized {
    fn from_row(row: &Row) -> Result<Self>;
}

/// A column's value by its place.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T> {
    row.try_get(place).map_err(|error| Error::of_driver(error, "XX000"))
}

/// A struct with public fields, and how it is read from a row that has them from a place on.
macro_rules! record {
    ($(#[$about:meta])* $kind:ident { $($(#[$told:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $kind { $($(#[$told])* pub $field: $type,)+ }

        impl $kind {
            pub(crate) fn from_place(row: &Row, place: usize) -> Result<Self> {
                let mut places = place..;
                let mut next = || places.next().unwrap_or(usize::MAX);
                Ok($kind { $($field: column(row, next())?,)+ })
            }
        }

        impl FromRow for $kind {
            fn from_row(row: &Row) -> Result<Self> {
                Self::from_place(row, 0)
            }
        }
    };
}

record!(
    /// A row of `federated_workspace_status`.
    WorkspaceStatus {
        /// Its name.
        workspace_name: String,
        /// How many nodes a round needs.
        min_nodes_required: i64,
        /// Registered, in whatever state.
        registered_nodes: i64,
        /// That the coordinator reaches now.
        active_nodes: i64,
        /// `ready`, `incomplete` …
        status: String,
    }
);

record!(
    /// A node, as the coordinator last saw it: `federated_node_status` and `federated_node_diagnostics`.
    Node {
        /// Its workspace.
        workspace: String,
        /// Its name there.
        node_name: String,
        /// `pending`, `active`, `slow`, `failed` …
        status: String,
        /// When the coordinator last heard of it.
        last_seen: Option<SystemTime>,
        /// In how many rounds it took part.
        rounds_participated: Option<i64>,
        /// How long a round takes it, in seconds.
        avg_round_time_seconds: Option<f64>,
        /// Rows that it told of.
        dataset_size: Option<i64>,
        /// Its share of what was learned.
        contribution_score: Option<f64>,
        /// How the connection stands.
        connection_status: Option<String>,
        /// Why it failed.
        failure_reason: Option<String>,
        /// Which endpoint is in use.
        endpoint_in_use: Option<String>,
        /// When its certificate expires.
        certificate_expires: Option<SystemTime>,
    }
);

record!(
    /// A model as it was created; `options` are those that statements have set.
    ModelInfo {
        /// Its name.
        model_name: String,
        /// Its workspace.
        workspace_name: String,
        /// The role that owns it.
        owner: String,
        /// What statements have set.
        options: Value,
        /// When it was created.
        created_at: SystemTime,
    }
);

record!(
    /// A row of `federated_runs`: one training, its number, how it stands, and the version that it left.
    Run {
        /// The workspace of its model.
        workspace_name: String,
        /// Its model.
        model_name: String,
        /// Its number among the runs of its model, from 1.
        run: i64,
        /// As logs and the audit log name it: a UUID.
        run_id: String,
        /// `queued`, `running`, how it ended, or `waiting` for its turn in a series.
        status: String,
        /// The role that said START.
        started_by: String,
        /// When START was said.
        queued_at: SystemTime,
        /// When a coordinator took it.
        started_at: Option<SystemTime>,
        /// When it ended.
        finished_at: Option<SystemTime>,
        /// The last round that was closed; 0 is preparation.
        rounds: Option<i64>,
        /// The last version that it left.
        version: Option<i64>,
        /// Which trial of a search it is of.
        trial: Option<i64>,
        /// Which fold it holds out, from 0.
        fold: Option<i64>,
        /// For which group of nodes it trains a model that votes, from 1.
        voting_group: Option<i64>,
        /// The nodes of that group, which alone take part.
        group_nodes: Option<Vec<String>>,
        /// What START named for it, beside the options of the model.
        options: Value,
        /// How it ended, and why.
        message: Option<String>,
    }
);

record!(
    /// A row of `federated_training_metrics`; round 0 gathers feature statistics.
    Round {
        /// Its number in its run.
        round_number: i64,
        /// When it ended, or, while it is open, began.
        timestamp: SystemTime,
        /// The loss over all nodes' held-out rows.
        global_loss: Option<f64>,
        /// The accuracy over all nodes' held-out rows.
        global_accuracy: Option<f64>,
        /// Nodes whose updates counted.
        participating_nodes: i64,
        /// Nodes that were lost in any exchange of the round.
        dropped_nodes: i64,
        /// How long it took, in seconds; `None` while it is open.
        round_duration_seconds: Option<f64>,
        /// What was sent and received, in 10^6 bytes.
        communication_mb: Option<f64>,
        /// What the most charged node has spent up to it, in ε.
        privacy_consumed_epsilon: Option<f64>,
        /// The standard error of the loss.
        global_loss_std_error: Option<f64>,
        /// The standard error of the accuracy.
        global_accuracy_std_error: Option<f64>,
    }
);

record!(
    /// A row of `federated_model_versions`.
    Version {
        /// Its number.
        version: i64,
        /// Its tags.
        tags: Vec<String>,
        /// The round that it is of.
        round_number: Option<i64>,
        /// When it was published.
        created_at: SystemTime,
        /// Whether predictions are by it.
        is_current: bool,
        /// Its loss over all nodes' held-out rows.
        global_loss: Option<f64>,
        /// Its accuracy over all nodes' held-out rows.
        global_accuracy: Option<f64>,
        /// What it cost, in ε.
        epsilon: Option<f64>,
        /// The SHA-256 of its parameters.
        parameters_sha256: Option<String>,
        /// The standard error of the loss.
        global_loss_std_error: Option<f64>,
        /// The standard error of the accuracy.
        global_accuracy_std_error: Option<f64>,
        /// When it was retired.
        retired_at: Option<SystemTime>,
    }
);

record!(
    /// A row of `federated_coefficients`, in the columns' own units.
    Coefficient {
        /// The column, or `(intercept)`.
        term: String,
        /// The coefficient.
        estimate: Option<f64>,
        /// Its standard error, where trained by `optimizer = 'newton'`.
        std_error: Option<f64>,
        /// Estimate over standard error.
        statistic: Option<f64>,
        /// The p-value of no effect.
        p_value: Option<f64>,
        /// The lower end of the 95 % interval.
        conf_low: Option<f64>,
        /// The upper end of the 95 % interval.
        conf_high: Option<f64>,
    }
);

record!(
    /// What a workspace may spend and has spent, in ε; `None` without a budget.
    Budget {
        /// The option `privacy_budget`.
        total_epsilon: Option<f64>,
        /// What the most charged node has spent.
        consumed_epsilon: Option<f64>,
        /// What is left.
        remaining_epsilon: Option<f64>,
    }
);

/// A round that has ended while a training was followed, and the number of the run that it is of: a training
/// with folds or a search is several runs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// The run's number among those of its model.
    pub run: i64,
    /// The round.
    pub round: Round,
}
