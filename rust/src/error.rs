//! What calls fail with: the server's own words, with SQLSTATE, DETAIL and HINT.

use std::error::Error as StdError;
use std::fmt;

use crate::records::Run;

/// What a call of this crate gives back.
pub type Result<T> = std::result::Result<T, Error>;

/// A call that failed, and why.
///
/// `sqlstate` is PostgreSQL's five characters for the case, the one that the statement has in SQL. What the
/// driver said is the [source](StdError::source), where the failure began there.
#[derive(Debug)]
pub struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    sqlstate: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    run: Option<Run>,
    source: Option<tokio_postgres::Error>,
}

impl Error {
    pub(crate) fn new(sqlstate: &str, message: impl Into<String>) -> Self {
        Error(Box::new(Parts {
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
            run: None,
            source: None,
        }))
    }

    /// The error for a value of the wrong type or out of range.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new("22023", message)
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The error of a run that ended without a model that is of use.
    pub(crate) fn of_run(run: Run) -> Self {
        let hint = if run.status == "diverged" {
            "A lower learning_rate, a tenth, is worth trying."
        } else {
            "Model::history shows its rounds; FederatedWorkspace::nodes how the nodes are."
        };
        let message = format!("training of federated model \"{}\" {}", run.model_name, run.status);
        let mut made = Error::new("55000", message).with_hint(hint);
        made.0.detail = run.message.clone();
        made.0.run = Some(run);
        made
    }

    /// What the server said; of an error that never reached it or came from elsewhere, what is known.
    pub(crate) fn of_driver(error: tokio_postgres::Error, elsewhere: &str) -> Self {
        let mut made = match error.as_db_error() {
            Some(said) => {
                let mut made = Error::new(said.code().code(), said.message());
                made.0.detail = said.detail().map(str::to_owned);
                made.0.hint = said.hint().map(str::to_owned);
                made
            }
            None => Error::new(elsewhere, error.to_string()),
        };
        made.0.source = Some(error);
        made
    }

    /// PostgreSQL's five characters for the case.
    pub fn sqlstate(&self) -> &str {
        &self.0.sqlstate
    }

    /// One sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What else is known.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// What can be done.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The run, where a training failed or diverged.
    pub fn run(&self) -> Option<&Run> {
        self.0.run.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.sqlstate(), self.message())?;
        for (label, text) in [("DETAIL", self.detail()), ("HINT", self.hint())] {
            if let Some(text) = text {
                write!(to, "\n{label}: {text}")?;
            }
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|error| error as &(dyn StdError + 'static))
    }
}
