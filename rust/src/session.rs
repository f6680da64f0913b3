//! One connection, and the statements that calls send over it.
//!
//! What always holds: requests take turns at the connection, one after the other; an error of the driver
//! leaves as this crate's [`Error`]; values travel as parameters, never inside SQL; functions of the product
//! are found in the extension's own schema, whatever the caller's search_path is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex as Turn;
use tokio_postgres::error::DbError;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Row, Socket};

use crate::error::{Error, Result};
use crate::records::{column, FromRow};

const KEPT_NOTICES: usize = 100;

/// A value that is bound to a statement.
pub(crate) type Bound<'a> = &'a (dyn ToSql + Sync);

/// A WARNING or NOTICE of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// `WARNING` or `NOTICE`, in the server's language.
    pub severity: String,
    /// PostgreSQL's five characters for the case.
    pub sqlstate: String,
    /// One sentence.
    pub message: String,
    /// What else is known.
    pub detail: Option<String>,
    /// What can be done.
    pub hint: Option<String>,
}

impl Notice {
    fn of(said: &DbError) -> Self {
        Notice {
            severity: said.severity().to_owned(),
            sqlstate: said.code().code().to_owned(),
            message: said.message().to_owned(),
            detail: said.detail().map(str::to_owned),
            hint: said.hint().map(str::to_owned),
        }
    }
}

/// What the server said beside its answers, until somebody asks; of many the last.
#[derive(Debug, Default)]
struct Heard(Mutex<VecDeque<Notice>>);

impl Heard {
    fn keep(&self, notice: Notice) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_NOTICES {
            kept.pop_front();
        }
        kept.push_back(notice);
    }

    fn take(&self) -> Vec<Notice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// A connection that its handles share.
pub(crate) struct Session {
    client: Turn<Client>,
    heard: Arc<Heard>,
}

impl Session {
    /// Connects; 3F000 where the extension is not in the database.
    pub(crate) async fn open<T>(config: &Config, tls: T) -> Result<Self>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let mut config = config.clone();
        if config.get_application_name().is_none() {
            config.application_name("heliosdb-rust");
        }
        let connected = config.connect(tls).await;
        let (client, connection) = connected.map_err(|error| Error::of_driver(error, "08001"))?;
        let heard = Arc::new(Heard::default());
        tokio::spawn(listen(connection, Arc::clone(&heard)));
        let session = Session { client: Turn::new(client), heard };
        let found = session.rows(include_str!("sql/connect.sql"), &[]).await?;
        if found.first().map_or(Ok(false), |row| column(row, 0))? {
            return Ok(session);
        }
        let hint = "Connect to the coordinator's database, or have a superuser type there: \
                    CREATE EXTENSION heliosdb_federated_learning CASCADE;";
        let absent = Error::new("3F000", "the extension heliosdb_federated_learning is not in this database");
        Err(absent.with_hint(hint))
    }

    /// Executes a statement of the language.
    pub(crate) async fn perform(&self, statement: &str) -> Result<()> {
        self.rows(include_str!("sql/execute.sql"), &[&statement]).await.map(drop)
    }

    /// Executes a statement of the language and asks a query, in one transaction.
    pub(crate) async fn perform_and_ask(&self, statement: &str, query: &str, values: &[Bound<'_>]) -> Result<Vec<Row>> {
        let mut client = self.client.lock().await;
        let asked = async {
            let transaction = client.transaction().await?;
            transaction.query(include_str!("sql/execute.sql"), &[&statement]).await?;
            let rows = transaction.query(query, values).await?;
            transaction.commit().await?;
            Ok(rows)
        };
        asked.await.map_err(failure)
    }

    /// Asks a query.
    pub(crate) async fn rows(&self, query: &str, values: &[Bound<'_>]) -> Result<Vec<Row>> {
        let client = self.client.lock().await;
        client.query(query, values).await.map_err(failure)
    }

    /// Asks a query, and makes an object of each row.
    pub(crate) async fn list<R: FromRow>(&self, query: &str, values: &[Bound<'_>]) -> Result<Vec<R>> {
        self.rows(query, values).await?.iter().map(R::from_row).collect()
    }

    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        self.heard.take()
    }
}

fn failure(error: tokio_postgres::Error) -> Error {
    let is_lost =
        error.is_closed() || std::error::Error::source(&error).map_or(false, |cause| cause.is::<std::io::Error>());
    Error::of_driver(error, if is_lost { "08006" } else { "XX000" })
}

/// Drives a connection to its end. Why it ended is told to the requests that were waiting.
async fn listen<S>(mut connection: Connection<Socket, S>, heard: Arc<Heard>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(said) = message {
            heard.keep(Notice::of(&said));
        }
    }
}
