//! The clients that are connected, and what waits to be told to each.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::SendStream;
use tokio::sync::Notify;

use super::SessionId;
use super::close::CloseCode;
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::refusals::Reason;
use crate::protocol::request::{self, Reply};

/// The clients that are connected.
pub(crate) struct Sessions {
    sessions: HashMap<SessionId, Session>,
    /// Those for whom something waits.
    pending: Vec<SessionId>,
    backlog_bytes_max: u64,
    inbox: Arc<Inbox>,
}

struct Session {
    stream: SendStream,
    cut: Arc<Notify>,
    outbox: Outbox,
    is_pending: bool,
}

impl Sessions {
    pub(crate) fn new(backlog_bytes_max: u64, inbox: Arc<Inbox>) -> Sessions {
        Sessions { sessions: HashMap::new(), pending: Vec::new(), backlog_bytes_max, inbox }
    }

    /// A session stands; it is greeted first.
    pub(crate) fn up(&mut self, id: SessionId, stream: SendStream, greeting: Bytes, cut: Arc<Notify>) {
        let mut outbox = Outbox::default();
        outbox.put_first(greeting);
        self.sessions.insert(id, Session { stream, cut, outbox, is_pending: true });
        self.pending.push(id);
    }

    pub(crate) fn down(&mut self, id: SessionId) {
        if let Some(mut gone) = self.sessions.remove(&id) {
            let _ = gone.stream.reset(CloseCode::Done.number());
        }
    }

    /// Puts a reply behind those that wait. Who has let too many gather is cut off instead: what waits counts without this one,
    /// because a reply alone may be larger than what may wait, and whoever reads gets it.
    pub(crate) fn reply(&mut self, id: SessionId, number: u64, reply: &Reply, payload: &[Bytes]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.outbox.bytes() > self.backlog_bytes_max {
            let _ = session.stream.reset(CloseCode::SlowReader.number());
            session.cut.notify_one();
            self.sessions.remove(&id);
            self.inbox.refusals.add(Reason::Slow);
            return;
        }
        session.outbox.put(number, |out| request::encode_reply(reply, out), payload);
        if !session.is_pending {
            session.is_pending = true;
            self.pending.push(id);
        }
    }

    /// Bytes that wait for a client.
    pub(crate) fn backlog_bytes(&self, id: SessionId) -> u64 {
        self.sessions.get(&id).map_or(0, |session| session.outbox.bytes())
    }

    /// Writes what waits, as far as the connections take it.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) {
        let sessions = &mut self.sessions;
        self.pending.retain(|id| {
            let Some(session) = sessions.get_mut(id) else { return false };
            session.is_pending = match session.outbox.poll_write(&mut session.stream, cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(_)) => {
                    // The connection is over, and will say so itself.
                    session.outbox.clear();
                    false
                }
            };
            session.is_pending
        });
    }

    /// Says to all that nothing more will come; the streams whose end can be waited for.
    pub(crate) fn finish(&mut self) -> Vec<SendStream> {
        let all = self.sessions.drain().filter(|(_, session)| session.outbox.is_empty());
        all.filter_map(|(_, mut session)| session.stream.finish().ok().map(|()| session.stream)).collect()
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }
}
