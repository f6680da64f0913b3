//! Federated learning as a feature of PostgreSQL: workspaces, nodes, models, training and predictions.
//!
//! Every call is a statement of the language or a query on views and functions that the caller's database role
//! may use: nothing is decided here. The connection is one of [`tokio_postgres`], to the coordinator's database,
//! with or without the proxy.
//!
//! ```no_run
//! use heliosdb::{FederatedLearning, FederatedWorkspace, Model, NodeConfig, TrainingConfig};
//!
//! # async fn example() -> heliosdb::Result<()> {
//! let fl = FederatedLearning::connect("postgresql://analyst@coordinator.example/heliosdb").await?;
//! let workspace = FederatedWorkspace::builder("consortium").min_nodes(3).create(&fl).await?;
//! workspace
//!     .register_node(
//!         NodeConfig::new("hospital_a", "https://hospital-a.example:8443")
//!             .certificate_file("hospital_a.pem")?,
//!     )
//!     .await?;
//! let model = Model::builder("risk")
//!     .algorithm("logistic_regression")
//!     .features(["age", "pressure"])
//!     .target("outcome")
//!     .create(&workspace)
//!     .await?;
//! let mut training = model.train(TrainingConfig::new().rounds(20)).await?;
//! while let Some(progress) = training.next_round().await? {
//!     println!("round {}: {:?}", progress.round.round_number, progress.round.global_loss);
//! }
//! let run = training.finish().await?;
//! let probability = model.predict([("age", 55.0), ("pressure", 140.0)]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What always holds: an error is an [`Error`] with the SQLSTATE, DETAIL and HINT that the statement has in SQL;
//! values are bound as parameters or quoted as the language's own literals; a training that nobody follows any
//! more goes on.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
mod error;
mod literals;
mod model;
mod prediction;
mod records;
mod session;
mod statements;
mod training;

pub use client::{FederatedLearning, FederatedWorkspace, NodeConfig, WorkspaceBuilder};
pub use error::{Error, Result};
pub use literals::OptionValue;
pub use model::{Model, ModelBuilder, ModelVersion};
pub use prediction::{FeatureValue, Features};
pub use records::{Budget, Coefficient, ModelInfo, Node, Progress, Round, Run, Version, WorkspaceStatus};
pub use session::Notice;
pub use tokio_postgres;
pub use training::{Training, TrainingConfig};
