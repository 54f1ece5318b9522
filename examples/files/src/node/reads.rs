//! What readers ask: each question may say up to which record the node has to be, so that an answer is never older than
//! what the asker knows of.
//!
//! | question | answer |
//! |---|---|
//! | `/v1/node` | how the node is, as JSON |
//! | `/v1/state` | the serialized state |
//! | `/v1/files?after=NAME&limit=N` | files by name, as JSON, and so on |
//! | `/v1/file?name=NAME` | one of them |
//! | `/v1/operation?id=ID` | what became of an operation |
//! | `/v1/content?name=NAME&put=ID&from=CHUNK&chunks=N` | contents, each chunk checked before it is sent |

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use annals::Lsn;
use annals::node::Replica;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::name::FileName;
use crate::operation::OperationId;
use crate::report::{FileReport, NodeReport, OperationReport};
use crate::state::{Contents, File};
use crate::store::{BlobReader, Shared};

/// Questions that are answered at the same time; more are told to ask another node.
pub(super) const READS_MAX: usize = 64;
/// How long a reader waits for a node that lags: then another node is quicker.
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// Files in one answer.
const FILES_MAX: usize = 1000;
/// Chunks of one reader that wait for the network.
const CHUNKS_AHEAD: usize = 2;
/// The header with a file's description.
pub(crate) const FILE_HEADER: &str = "x-file";

/// What answers need.
#[derive(Debug)]
pub(super) struct Reads {
    replica: Replica,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
}

/// Why a question has no answer here.
#[derive(Debug)]
pub(super) struct Refused(StatusCode, String);

#[derive(Debug, Deserialize)]
pub(super) struct Question {
    at: Option<u64>,
    name: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    id: Option<OperationId>,
    put: Option<OperationId>,
    from: Option<u64>,
    chunks: Option<u64>,
}

type Answer = Result<Response, Refused>;

pub(super) async fn node(asked: State<Arc<Reads>>) -> Answer {
    answer(asked.0, |reads| {
        let status = reads.replica.status().map_err(|error| unavailable(&error.to_string()))?;
        json(&NodeReport::of(&status, &reads.shared.frozen()))
    })
    .await
}

pub(super) async fn state(asked: State<Arc<Reads>>) -> Answer {
    answer(asked.0, |reads| {
        let bytes = reads.shared.frozen().state.to_json();
        Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
    })
    .await
}

pub(super) async fn files(State(reads): State<Arc<Reads>>, question: Asked) -> Answer {
    let question = understood(question)?;
    answer(reads, move |reads| {
        reads.reach(&question)?;
        let after = question.after.map(FileName::try_from).transpose().map_err(bad)?;
        let limit = question.limit.unwrap_or(FILES_MAX).min(FILES_MAX);
        let list: Vec<FileReport> = reads.shared.look(|view| {
            let begin = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let files = view.state.files.range::<FileName, _>((begin, Bound::Unbounded));
            files.take(limit).map(|(name, file)| report(name, file)).collect()
        });
        json(&list)
    })
    .await
}

pub(super) async fn file(State(reads): State<Arc<Reads>>, question: Asked) -> Answer {
    let question = understood(question)?;
    answer(reads, move |reads| {
        reads.reach(&question)?;
        let name = question.name()?;
        let (file, _) = reads.file(&name)?;
        json(&report(&name, &file))
    })
    .await
}

pub(super) async fn operation(State(reads): State<Arc<Reads>>, question: Asked) -> Answer {
    let question = understood(question)?;
    answer(reads, move |reads| {
        reads.reach(&question)?;
        let id = question.id.ok_or_else(|| bad("the id is missing"))?;
        let report = reads.shared.look(|view| {
            let finished = view.state.finished.get(&id).map(|finished| OperationReport::Finished(*finished));
            let unfinished = view.state.unfinished.get(&id).map(|put| OperationReport::Unfinished(*put));
            finished.or(unfinished).unwrap_or(OperationReport::Unheard)
        });
        json(&report)
    })
    .await
}

pub(super) async fn content(State(reads): State<Arc<Reads>>, question: Asked) -> Answer {
    let question = understood(question)?;
    let permit = reads.permit()?;
    let begun = tokio::task::spawn_blocking(move || {
        reads.reach(&question)?;
        let name = question.name()?;
        let (file, mut reader) = reads.open(&name, &question)?;
        let mut first = vec![];
        if let Some(reader) = &mut reader {
            reader.next_chunk(&mut first).map_err(|error| damaged(&error))?;
        }
        Ok::<_, Refused>((report(&name, &file), reader, first, question))
    });
    let (report, reader, first, question) = begun.await.map_err(|_| unavailable("the node ends"))??;
    let from = question.from.unwrap_or(0).min(report.chunks);
    let chunks = question.chunks.unwrap_or(u64::MAX).min(report.chunks - from);
    let chunk_bytes = crate::record::CHUNK_BYTES as u64;
    let bytes = report.bytes.min((from + chunks) * chunk_bytes).saturating_sub(from * chunk_bytes);
    let body = reader.map_or_else(Body::empty, |reader| stream_of(reader, first, chunks, permit));
    let mut sent = Response::new(body);
    let headers = sent.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let report = serde_json::to_string(&report).unwrap_or_default();
    // Names beyond ASCII are told by the question already.
    let report = HeaderValue::from_bytes(report.as_bytes()).unwrap_or(HeaderValue::from_static("{}"));
    headers.insert(FILE_HEADER, report);
    Ok(sent)
}

/// The chunks, read ahead by a thread that may wait. Damage in the middle cuts the answer off, before the bytes.
fn stream_of(mut reader: BlobReader, first: Vec<u8>, chunks: u64, permit: OwnedSemaphorePermit) -> Body {
    let (sender, mut receiver) = mpsc::channel::<std::io::Result<Bytes>>(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut next = Ok(first);
        for index in 0..chunks {
            let is_last = next.is_err() || index + 1 == chunks;
            // Refused when the reader is gone.
            if sender.blocking_send(next.map(Bytes::from)).is_err() || is_last {
                return;
            }
            let mut chunk = vec![];
            next = reader.next_chunk(&mut chunk).map(|_| chunk);
        }
    });
    Body::from_stream(stream::poll_fn(move |context| receiver.poll_recv(context)))
}

impl Reads {
    pub(super) fn new(replica: Replica, shared: Arc<Shared>) -> Reads {
        Reads { replica, shared, room: Arc::new(Semaphore::new(READS_MAX)) }
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let room = Arc::clone(&self.room).try_acquire_owned();
        room.map_err(|_| unavailable("too many read from this node at once; ask another"))
    }

    /// Waits until the node is as far as the question wants.
    fn reach(&self, question: &Question) -> Result<(), Refused> {
        let at = Lsn::new(question.at.unwrap_or(0));
        let is_reached =
            self.replica.applied(at).is_ok_and(|applied| applied.wait_timeout(BEHIND_MAX).is_ok());
        let seen = self.shared.look(|view| (view.trouble.clone(), view.is_waiting, view.state.applied));
        let (trouble, is_waiting, applied) = seen;
        match trouble {
            // Without room nothing new comes, and what is there is as good as before.
            Some(_) if is_reached && is_waiting => Ok(()),
            Some(trouble) => Err(unavailable(&format!("its store {trouble}"))),
            None if is_reached => Ok(()),
            None => Err(unavailable(&format!("it lags: record {at} is wanted, {applied} is applied"))),
        }
    }

    fn file(&self, name: &FileName) -> Result<(File, std::path::PathBuf), Refused> {
        let found = self.shared.look(|view| Some((view.state.files.get(name)?.clone(), view.blobs.clone())));
        found.ok_or_else(|| Refused(StatusCode::NOT_FOUND, format!("there is no file {name}")))
    }

    /// A file, and its contents if it has any: of an empty one nothing is on the disk.
    fn open(&self, name: &FileName, question: &Question) -> Result<(File, Option<BlobReader>), Refused> {
        let from = question.from.unwrap_or(0);
        // A file may go between the two looks; then there is another answer, and that one lasts.
        for _ in 0..3 {
            let (file, blobs) = self.file(name)?;
            if question.put.is_some_and(|put| put != file.put) {
                let gone = format!("{name} was replaced meanwhile");
                return Err(Refused(StatusCode::CONFLICT, gone));
            }
            let File { blob, chunks, bytes, digest, .. } = file;
            if chunks == 0 {
                return Ok((file, None));
            }
            let contents = Contents { blob, chunks, bytes, digest: Some(digest) };
            match BlobReader::open(&blobs, contents, from) {
                Ok(reader) => return Ok((file, Some(reader))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(damaged(&error)),
            }
        }
        Err(damaged(&std::io::Error::other("its contents are not on the disk")))
    }
}

impl Question {
    fn name(&self) -> Result<FileName, Refused> {
        let name = self.name.clone().ok_or_else(|| bad("the name is missing"))?;
        FileName::try_from(name).map_err(bad)
    }
}

type Asked = Result<Query<Question>, axum::extract::rejection::QueryRejection>;

fn understood(question: Asked) -> Result<Question, Refused> {
    question.map(|Query(question)| question).map_err(|error| bad(error.body_text()))
}

/// Answers on a thread that may wait.
async fn answer(
    reads: Arc<Reads>,
    answer: impl FnOnce(&Reads) -> Answer + Send + 'static,
) -> Result<Response, Refused> {
    let permit = reads.permit()?;
    let answered = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        answer(&reads)
    });
    answered.await.map_err(|_| unavailable("the node ends"))?
}

fn report(name: &FileName, file: &File) -> FileReport {
    let File { put, bytes, chunks, digest, lsn, .. } = *file;
    FileReport { name: name.to_string(), put, bytes, chunks, digest, lsn }
}

fn json(what: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(what).map_err(|error| unavailable(&error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn bad(why: impl ToString) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why.to_string())
}

fn unavailable(why: &str) -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
}

/// This node's copy cannot be read; others have theirs.
fn damaged(error: &std::io::Error) -> Refused {
    let advice =
        "stop the node, remove its store directory, and start it: the store is made anew from the log";
    Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}; {advice}"))
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}
