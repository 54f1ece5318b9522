//! Those who put and get: a client of the log for what changes something, and of the nodes for what is read.
//!
//! A read asks the log's primary up to which record everything has to be seen that was acknowledged before
//! ([`Client::linearizable_read`](annals::client::Client::linearizable_read)), and then any node, which waits until it has
//! applied that record. So reading is spread over the nodes, and never sees the past.

mod change;
mod get;
mod put;
mod reader;

use std::time::Duration;

use annals::Lsn;
use annals::client::{ClientError, ClientOptions};

use crate::error::{Error, Result};
use crate::home::Home;
use crate::operation::OperationId;
use crate::record::Operation;
use crate::report::OperationReport;
use crate::state::{Finished, Outcome};

pub use get::Got;
pub use put::{PutOptions, Putting};
pub use reader::{Node, Reader};

/// Bytes of chunks that are on their way at the same time.
const IN_FLIGHT_BYTES: u64 = 8 << 20;

/// A file store, from afar.
#[derive(Debug)]
pub struct FileClient {
    log: annals::client::Client,
    reader: Reader,
}

impl FileClient {
    /// A client of the cluster with this directory. `from` is the node to read from before all others.
    ///
    /// # Errors
    /// If the certificates cannot be used.
    pub fn connect(home: &Home, deadline: Duration, from: Option<u64>) -> Result<FileClient> {
        let files = home.client_files();
        let log = ClientOptions::new(home.nodes().map(|(_, address)| address.to_string()))
            .certificates(files.ca, files.cert, files.key)
            .deadline(deadline)
            .in_flight_bytes_max(IN_FLIGHT_BYTES)
            .connect()?;
        Ok(FileClient { log, reader: Reader::new(home, deadline, from)? })
    }

    /// The nodes, for those who read.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The log, for those who operate the cluster.
    #[must_use]
    pub const fn log(&self) -> &annals::client::Client {
        &self.log
    }

    /// Up to which record a node has to be for an answer that is not of the past.
    ///
    /// # Errors
    /// If there is no primary.
    pub fn now(&self) -> Result<Lsn> {
        Ok(self.log.linearizable_read().wait()?)
    }

    /// What is known of an operation.
    ///
    /// # Errors
    /// If no node answers.
    pub fn operation(&self, id: OperationId) -> Result<OperationReport> {
        self.reader.operation(id, self.now()?)
    }

    /// Appends an operation, and says what became of it.
    fn operate(&self, operation: &Operation) -> Result<Finished> {
        let id = operation.id();
        let appended = self.log.append_durable(&operation.to_bytes()).map(|receipt| receipt.lsn());
        told(id, appended, || self.now(), |at| self.reader.operation(id, at))
    }
}

/// What became of an operation after its append. Once its record may be in the log no error says that it was not done:
/// whoever asks again with the same id is told.
fn told(
    id: OperationId,
    appended: Result<Lsn, ClientError>,
    now: impl FnOnce() -> Result<Lsn>,
    ask: impl FnOnce(Lsn) -> Result<OperationReport>,
) -> Result<Finished> {
    let unknown = |reason| unknown(id, reason);
    let at = match appended {
        Ok(at) if at > Lsn::ZERO => at,
        // It is there, and nobody remembers where; or nobody knows whether it is.
        Ok(_) | Err(ClientError::Unknown) => now().map_err(unknown)?,
        Err(error) => return Err(error.into()),
    };
    match ask(at).map_err(unknown)? {
        OperationReport::Finished(finished) => Ok(finished),
        _ => Err(unknown(ClientError::Unknown.into())),
    }
}

/// What an outcome means to whoever has asked.
fn done(finished: Finished) -> Result<Finished> {
    match finished.outcome {
        Outcome::Done => Ok(finished),
        other => Err(Error::Refused(other)),
    }
}

fn unknown(id: OperationId, reason: Error) -> Error {
    Error::Unknown { id, reason: Box::new(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: OperationId = OperationId::new(77);

    fn timed_out() -> Error {
        Error::Log(ClientError::TimedOut { reason: "no quorum".into() })
    }

    fn is_unknown(told: Result<Finished>) {
        let Err(error) = told else { panic!("{told:?}") };
        let id = ID.to_string();
        let (text, advice) = (error.to_string(), error.advice().unwrap());
        assert_eq!(error.status(), 2, "{text}");
        assert!(text.contains(&id) && advice.contains(&format!("--id {id}")), "{text}; {advice}");
        assert!(!text.contains("nothing was changed") && !advice.contains("nothing was changed"), "{advice}");
    }

    #[test]
    fn after_the_append_no_error_says_that_it_was_not_done() {
        let there = Lsn::new(5);
        let never = || -> Result<Lsn> { panic!("the record's place is known") };
        is_unknown(told(ID, Ok(there), never, |_| Err(Error::NoNode(vec![(1, "it lags".to_owned())]))));
        is_unknown(told(ID, Ok(there), never, |_| Ok(OperationReport::Unheard)));
        for appended in [Ok(Lsn::ZERO), Err(ClientError::Unknown)] {
            is_unknown(told(ID, appended.clone(), || Err(timed_out()), |_| panic!("no place to ask for")));
            is_unknown(told(ID, appended, || Ok(there), |_| Err(timed_out())));
        }
    }

    #[test]
    fn an_append_that_was_not_done_changes_nothing() {
        let Error::Log(reason) = timed_out() else { panic!("it is the log's") };
        let never = || -> Result<Lsn> { panic!("nothing to ask for") };
        let told = told(ID, Err(reason), never, |_| panic!("nothing to ask for"));
        let Err(error) = told else { panic!("{told:?}") };
        assert!(error.status() == 3 && error.advice().unwrap().contains("nothing was changed"), "{error}");
    }
}
