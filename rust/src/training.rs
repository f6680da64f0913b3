//! Training: START, and following the runs that it queued until they have ended.
//!
//! What always holds: START is committed before anybody waits, so whoever stops waiting (a timeout, a future
//! that is dropped, a lost connection) leaves the run going; nothing but STOP ends it.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::sleep;
use tokio_postgres::Row;

use crate::error::{Error, Result};
use crate::literals::{OptionValue, Options};
use crate::model::Model;
use crate::records::{column, Progress, Round, Run};
use crate::statements;

const PAUSE: Duration = Duration::from_millis(250);
const PLACE_OF_RUN_ID: usize = 12;

/// What a START says; what it does not say is the model's own option.
#[derive(Debug, Clone, Default)]
#[must_use = "a configuration does nothing until `Model::train` has it"]
pub struct TrainingConfig {
    options: Options,
}

impl TrainingConfig {
    /// The model's own options.
    pub fn new() -> Self {
        TrainingConfig::default()
    }

    /// How many rounds at most.
    pub fn rounds(self, rounds: u32) -> Self {
        self.option("rounds", rounds)
    }

    /// How often a node goes through its rows in a round.
    pub fn local_epochs(self, epochs: u32) -> Self {
        self.option("local_epochs", epochs)
    }

    /// Rows of a step.
    pub fn batch_size(self, rows: u32) -> Self {
        self.option("batch_size", rows)
    }

    /// Any option of START.
    pub fn option(mut self, name: &str, value: impl Into<OptionValue>) -> Self {
        self.options.set(name, value);
        self
    }

    /// The statement that starts a training of a model.
    ///
    /// # Errors
    /// 22021 and 22023 for what cannot be written.
    pub fn statement(&self, model: &str) -> Result<String> {
        statements::start_training(model, &self.options)
    }
}

/// What a START queued, one run or those of folds or a search, as it goes on.
///
/// To drop it, or a future of its methods, leaves the run going: [`Model::training`] follows it again.
pub struct Training {
    model: Model,
    run_ids: Vec<String>,
    /// Of each run the last round that was told.
    seen: Vec<i64>,
    untold: VecDeque<Progress>,
    ended: Option<(String, Option<String>)>,
}

impl Training {
    pub(crate) async fn start(model: &Model, config: &TrainingConfig) -> Result<Self> {
        let statement = config.statement(&model.name)?;
        let asked = include_str!("sql/list_started.sql");
        let rows = model.session.perform_and_ask(&statement, asked, &[&model.name]).await?;
        Training::of(model, &rows)
    }

    pub(crate) async fn latest(model: &Model) -> Result<Self> {
        let rows = model.session.rows(include_str!("sql/list_latest.sql"), &[&model.name]).await?;
        if rows.is_empty() {
            let text = format!("federated model \"{}\" has never been in training", model.name);
            return Err(Error::new("55000", text).with_hint("Model::train starts a run."));
        }
        Training::of(model, &rows)
    }

    fn of(model: &Model, rows: &[Row]) -> Result<Self> {
        let run_ids: Vec<String> = rows.iter().map(|row| column(row, 0)).collect::<Result<_>>()?;
        let seen = vec![-1; run_ids.len()];
        Ok(Training { model: model.clone(), run_ids, seen, untold: VecDeque::new(), ended: None })
    }

    /// Waits for the next round that has ended, from round 0 on; `None` when the training has. No round is
    /// left out or told twice, also where a future of this was dropped.
    ///
    /// # Errors
    /// 42704 where the model was dropped meanwhile, 08006 where the connection was lost.
    pub async fn next_round(&mut self) -> Result<Option<Progress>> {
        loop {
            if let Some(told) = self.untold.pop_front() {
                return Ok(Some(told));
            }
            if self.ended.is_some() {
                return Ok(None);
            }
            self.look().await?;
            if self.untold.is_empty() && self.ended.is_none() {
                sleep(PAUSE).await;
            }
        }
    }

    /// The same as a stream, which may be left and taken up again.
    pub fn rounds(&mut self) -> BoxStream<'_, Result<Progress>> {
        stream::try_unfold(
            self,
            |training| async move { Ok(training.next_round().await?.map(|told| (told, training))) },
        )
        .boxed()
    }

    /// The run as it is now; of several the one that left the version, else the last.
    ///
    /// # Errors
    /// 42704 where it is gone.
    pub async fn run(&self) -> Result<Run> {
        let mut own = self.model.runs().await?;
        own.retain(|run| self.run_ids.contains(&run.run_id));
        let place = own.iter().position(|run| run.version.is_some()).or_else(|| own.len().checked_sub(1));
        let gone = || Error::new("42704", format!("the run of federated model \"{}\" is gone", self.model.name));
        place.map(|place| own.swap_remove(place)).ok_or_else(gone)
    }

    /// Waits until the training has ended, and returns the run; its `status` is `converged`, `completed`,
    /// `stopped` or `budget_exhausted`.
    ///
    /// # Errors
    /// 55000 where it failed or diverged, with the [run](Error::run).
    pub async fn finish(mut self) -> Result<Run> {
        while self.next_round().await?.is_some() {}
        let mut run = self.run().await?;
        if let Some((status, message)) = self.ended {
            run.status = status;
            run.message = message.or(run.message);
        }
        if matches!(run.status.as_str(), "failed" | "diverged") {
            return Err(Error::of_run(run));
        }
        Ok(run)
    }

    /// Asks how the runs stand and which rounds have ended. In this order: what ended with the last run is seen.
    async fn look(&mut self) -> Result<()> {
        let session = &self.model.session;
        let standing = session.rows(include_str!("sql/follow_runs.sql"), &[&self.run_ids]).await?;
        if standing.len() < self.run_ids.len() {
            let text = "was dropped while waiting for its training";
            return Err(Error::new("42704", format!("federated model \"{}\" {text}", self.model.name)));
        }
        let ended = ending(&standing)?;
        let values: [crate::session::Bound<'_>; 3] = [&self.model.name, &self.run_ids, &self.seen];
        let rounds = session.rows(include_str!("sql/follow_rounds.sql"), &values).await?;
        let told = rounds.iter().map(read_progress).collect::<Result<Vec<_>>>()?;
        for (run_id, progress) in told {
            if let Some(place) = self.run_ids.iter().position(|known| *known == run_id) {
                self.seen[place] = progress.round.round_number;
                self.untold.push_back(progress);
            }
        }
        self.ended = ended;
        Ok(())
    }
}

fn read_progress(row: &Row) -> Result<(String, Progress)> {
    let progress = Progress { run: column(row, 0)?, round: Round::from_place(row, 1)? };
    Ok((column(row, PLACE_OF_RUN_ID)?, progress))
}

/// How the run, or the series that it is of, ended; `None` while it goes on.
fn ending(standing: &[Row]) -> Result<Option<(String, Option<String>)>> {
    for row in standing {
        if is_active(&column::<String>(row, 1)?) {
            return Ok(None);
        }
    }
    let last = standing.last().ok_or_else(|| Error::new("XX000", "a training has no run"))?;
    match column::<Option<String>>(last, 2)? {
        None => Ok(Some((column(last, 1)?, None))),
        Some(status) if is_active(&status) => Ok(None),
        Some(status) => Ok(Some((status, column(last, 3)?))),
    }
}

fn is_active(status: &str) -> bool {
    matches!(status, "queued" | "running")
}
