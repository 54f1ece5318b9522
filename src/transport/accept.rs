//! The side that is connected to: who may come in.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;

use quinn::{Connection, Incoming, RecvStream, SendStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::close::CloseCode;
use super::configs::Configs;
use super::crowd::{Admission, Crowd, UnderWay};
use super::error::TransportError;
use super::frame::Greeting;
use super::identity::Identity;
use super::inbox::{Event, Inbox, Line, PeerUp};
use super::options::TransportOptions;
use super::reading;
use super::refusals::Reason;
use super::tls::{self, Speech};
use super::{Arrival, SessionId};
use crate::protocol::request::ClientRole;

/// Who may come in, and who is there.
pub(crate) struct Gate {
    pub(crate) options: Arc<TransportOptions>,
    pub(crate) configs: Arc<Configs>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) here: std::net::SocketAddr,
    crowd: Arc<Crowd>,
    sessions: AtomicUsize,
    /// Of clients.
    connections: AtomicUsize,
    next_session: AtomicU64,
}

impl Gate {
    pub(crate) fn new(
        options: Arc<TransportOptions>,
        configs: Arc<Configs>,
        inbox: Arc<Inbox>,
        here: std::net::SocketAddr,
    ) -> Gate {
        let crowd = Arc::new(Crowd::new(options.limits.handshakes_max));
        Gate {
            options,
            configs,
            inbox,
            here,
            crowd,
            sessions: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            next_session: AtomicU64::new(1),
        }
    }

    /// Clients that are connected.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Connections of clients.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Lets in whoever comes, until the endpoint is closed.
    pub(crate) async fn keep(self: Arc<Gate>, endpoint: quinn::Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let under_way = self.crowd.come(incoming.remote_address().ip());
            match under_way.admission(incoming.may_retry()) {
                Admission::Refuse(reason) => {
                    self.inbox.refusals.add(reason);
                    incoming.refuse();
                }
                Admission::Prove => drop(incoming.retry()),
                Admission::Welcome => {
                    let gate = Arc::clone(&self);
                    tokio::spawn(async move { gate.welcome(incoming, under_way).await });
                }
            }
        }
    }

    async fn welcome(self: Arc<Gate>, incoming: Incoming, under_way: UnderWay) {
        let config = self.configs.server(self.here, incoming.remote_address());
        let handshake_max = self.options.timing.handshake_max;
        let connection = match incoming.accept_with(config) {
            Ok(connecting) => timeout(handshake_max, connecting).await,
            Err(why) => Ok(Err(why)),
        };
        let connection = match connection {
            Ok(Ok(connection)) => connection,
            Ok(Err(why)) => return self.inbox.refusals.add(Reason::of_handshake(&why)),
            Err(_) => return self.inbox.refusals.add(Reason::Unfinished),
        };
        let known = tls::other_side(&connection).filter(|(who, _)| who.cluster() == self.options.cluster);
        match known {
            Some((Identity::Replica { id, .. }, Speech::Peer | Speech::CatchUp)) if id == self.options.me => {
                self.turn_away(&connection, CloseCode::WrongName, Reason::Certificate);
            }
            Some((Identity::Replica { id, .. }, speech @ (Speech::Peer | Speech::CatchUp))) => {
                let line = Arc::new(Line::new(id, connection));
                let is_catch_up = speech == Speech::CatchUp;
                let up = PeerUp { id, is_catch_up, is_dialed_here: false, line };
                self.inbox.happen(Event::PeerUp(up), None);
            }
            Some((who, Speech::Client)) => {
                let role = who.role();
                drop(under_way);
                self.serve(connection, role).await;
            }
            _ => self.turn_away(&connection, CloseCode::WrongName, Reason::Certificate),
        }
    }

    fn turn_away(&self, connection: &Connection, code: CloseCode, reason: Reason) {
        self.inbox.refusals.add(reason);
        connection.close(code.number(), b"");
    }

    /// A client's connection: a session for each stream that it opens. Without one it is closed after a while.
    async fn serve(self: Arc<Gate>, connection: Connection, role: ClientRole) {
        let place = Hold::new(Arc::clone(&self), |gate| &gate.connections);
        let limits = &self.options.limits;
        if place.count > limits.sessions_max.saturating_add(limits.handshakes_max) {
            return self.turn_away(&connection, CloseCode::TooMany, Reason::Limit);
        }
        // Each of its sessions holds one.
        let company = Arc::new(());
        let mut has_spoken = false;
        loop {
            let (stream, input) =
                match timeout(self.options.timing.handshake_max, connection.accept_bi()).await {
                    Ok(Ok(opened)) => opened,
                    Ok(Err(_)) => return,
                    Err(_) if Arc::strong_count(&company) > 1 => continue,
                    Err(_) if has_spoken => return connection.close(CloseCode::Done.number(), b""),
                    Err(_) => {
                        return self.turn_away(&connection, CloseCode::BadMessage, Reason::Unfinished);
                    }
                };
            has_spoken = true;
            self.begin(&connection, (stream, input), role, Arc::clone(&company));
        }
    }

    /// A client has opened a stream.
    fn begin(
        self: &Arc<Gate>,
        connection: &Connection,
        (mut stream, mut input): (SendStream, RecvStream),
        role: ClientRole,
        company: Arc<()>,
    ) {
        let place = Hold::new(Arc::clone(self), |gate| &gate.sessions);
        if place.count > self.options.limits.sessions_max {
            self.inbox.refusals.add(Reason::Limit);
            let _ = stream.reset(CloseCode::TooMany.number());
            let _ = input.stop(CloseCode::TooMany.number());
            return;
        }
        let (gate, connection) = (Arc::clone(self), connection.clone());
        tokio::spawn(async move {
            gate.session(connection, stream, input, role).await;
            drop((place, company));
        });
    }

    /// A client's session, from its beginning to its end.
    async fn session(
        &self,
        connection: Connection,
        stream: SendStream,
        mut input: RecvStream,
        role: ClientRole,
    ) {
        let session = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let cut = Arc::new(Notify::new());
        self.open(session, stream, role, Arc::clone(&cut));
        let mut reading = pin!(self.read(session, &mut input, role));
        let mut cut = pin!(cut.notified());
        let ended = poll_fn(|cx| {
            if cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(TransportError::SlowReader);
            }
            reading.as_mut().poll(cx)
        });
        let error = ended.await;
        match CloseCode::of(&error) {
            None | Some(CloseCode::SlowReader) => {}
            // Whoever breaks a rule is not trusted with other streams either.
            Some(code) => {
                self.inbox.refusals.add(Reason::of(&error));
                connection.close(code.number(), error.to_string().as_bytes());
            }
        }
        self.inbox.happen(Event::SessionDown { session }, Some(Arrival::Closed { session }));
    }

    fn open(&self, session: SessionId, stream: SendStream, role: ClientRole, cut: Arc<Notify>) {
        let kind = match role {
            ClientRole::Read => 0,
            ClientRole::Append => 1,
            ClientRole::Admin => 2,
        };
        let greeting = Greeting { kind, id: self.options.me.get(), text: String::new() }.encode();
        let up = Event::SessionUp { session, stream, greeting, cut };
        self.inbox.happen(up, Some(Arrival::Opened { session, role }));
    }

    async fn read(&self, session: SessionId, input: &mut RecvStream, role: ClientRole) -> TransportError {
        let bytes_max = self.options.limits.request_bytes_max;
        reading::read_session(&self.inbox, input, session, role, bytes_max).await
    }
}

/// One of a bounded number of places, until it is dropped.
struct Hold {
    gate: Arc<Gate>,
    of: fn(&Gate) -> &AtomicUsize,
    /// How many are held, with this one.
    count: usize,
}

impl Hold {
    fn new(gate: Arc<Gate>, of: fn(&Gate) -> &AtomicUsize) -> Hold {
        let count = of(&gate).fetch_add(1, Ordering::Relaxed) + 1;
        Hold { gate, of, count }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        (self.of)(&self.gate).fetch_sub(1, Ordering::Relaxed);
    }
}
