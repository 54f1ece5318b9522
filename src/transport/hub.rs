//! The one task that gives the actor its turns, and sends what it says.
//!
//! All tasks of a transport run in one thread, in the order in which they become ready: so when this one has its turn,
//! the readers that were ready with it have left what they had, and the actor takes all of it together.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::close::CloseCode;
use super::expiry::Daily;
use super::inbox::{Event, Inbox};
use super::peers::Peers;
use super::reading;
use super::sessions::Sessions;
use super::stats::Shared;
use super::timer::Timer;
use super::{Actor, Arrival, Lane, Network, SessionId};
use crate::protocol::Envelope;
use crate::protocol::request::Reply;
use crate::types::ReplicaId;

/// What was said last may take so long to reach the others.
const LINGER: Duration = Duration::from_millis(200);
/// Probes are early by so much where a turn is under way anyway: heartbeats mostly come at the same pace.
const SLACK: Duration = Duration::from_millis(8);
/// Without anything to wait for, it looks round so often.
const FAR: Duration = Duration::from_secs(3600);

/// The one task that gives the actor its turns.
pub(crate) struct Hub {
    actor: Box<dyn Actor>,
    net: Net,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    /// When the actor wants its next turn.
    deadline: Option<Instant>,
    /// From one probe of silent peers to the next.
    probe: Option<Duration>,
    next_probe: Instant,
    /// When it is said how long the certificate lasts: any turn will do, and there are many each day.
    certificate: Daily,
}

/// What a turn is lent.
struct Net {
    peers: Peers,
    sessions: Sessions,
}

impl Hub {
    pub(crate) fn new(
        actor: Box<dyn Actor>,
        peers: Peers,
        inbox: Arc<Inbox>,
        shared: Arc<Shared>,
        endpoint: quinn::Endpoint,
    ) -> Hub {
        let options = &shared.options;
        let sessions = Sessions::new(options.limits.session_backlog_bytes_max, Arc::clone(&inbox));
        let probe = Some(options.timing.probe).filter(|probe| !probe.is_zero());
        let now = Instant::now();
        Hub {
            actor,
            net: Net { peers, sessions },
            inbox,
            endpoint,
            deadline: Some(now),
            probe,
            next_probe: now,
            certificate: Daily::new(now),
            shared,
        }
    }

    /// Turn after turn, until somebody asks for the last one.
    pub(crate) async fn run(mut self) {
        let (mut arrivals, mut events) = (Vec::new(), Vec::new());
        let mut timer = Timer::at(Instant::now());
        let mut is_last = false;
        while !is_last {
            self.wait(&mut timer).await;
            self.inbox.bell().answer();
            self.inbox.take(&mut arrivals, &mut events);
            for event in events.drain(..) {
                is_last |= matches!(event, Event::ShutDown);
                self.net.take(event, &mut arrivals);
            }
            self.probe_silent(&mut arrivals);
            self.shared.count_turn(&arrivals);
            self.deadline = self.actor.turn(&mut self.net, &mut arrivals);
            arrivals.clear();
            self.shared.note(&mut self.net.peers);
            if self.certificate.is_due(Instant::now()) {
                self.shared.tell_end();
            }
        }
        self.end().await;
    }

    /// Sends what the turn has said, and waits for a reason for the next one.
    async fn wait(&mut self, timer: &mut Timer) {
        let due = [self.deadline, self.probe.map(|_| self.next_probe)].into_iter().flatten().min();
        let due = due.unwrap_or_else(|| Instant::now() + FAR);
        timer.set(due);
        let mut bell = pin!(self.inbox.bell().wait());
        let net = &mut self.net;
        let (mut is_first, mut is_due) = (true, false);
        poll_fn(|cx| {
            net.flush(cx);
            let was_due = is_due;
            is_due = is_due || bell.as_mut().poll(cx).is_ready() || timer.poll(cx).is_ready();
            let is_quick = is_due && !was_due && is_first;
            is_first = false;
            if is_quick {
                // Others have their turn between two of this: what was just said is sent.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if is_due { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn probe_silent(&mut self, arrivals: &mut Vec<Arrival>) {
        let Some(pace) = self.probe else { return };
        let now = Instant::now();
        if now + SLACK >= self.next_probe {
            // A little later than the pace, so that a heartbeat at that pace comes first and takes the tick with it.
            self.next_probe = now + pace + SLACK / 2;
            self.net.peers.tick(arrivals);
        }
    }

    /// Says the last words, closes all connections and lets go of the actor.
    async fn end(mut self) {
        let net = &mut self.net;
        let flushed = poll_fn(|cx| {
            net.flush(cx);
            if net.peers.is_flushed() && net.sessions.is_flushed() { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = timeout(LINGER, flushed).await;
        let mut streams = net.peers.finish();
        streams.append(&mut net.sessions.finish());
        let heard = async {
            for stream in &streams {
                let _ = stream.stopped().await;
            }
        };
        let _ = timeout(LINGER, heard).await;
        self.endpoint.close(CloseCode::Done.number(), b"");
        let _ = timeout(LINGER, self.endpoint.wait_idle()).await;
    }
}

impl Net {
    fn take(&mut self, event: Event, arrivals: &mut Vec<Arrival>) {
        match event {
            Event::PeerUp(up) => self.peers.up(up),
            Event::DialFailed { id, is_catch_up, error } => self.peers.dial_failed(id, is_catch_up, error),
            Event::PeerDown { line, error } => self.peers.down(&line, error, arrivals),
            Event::Found { id, address } => self.peers.found(id, address, arrivals),
            Event::SessionUp { session, stream, greeting, cut } => {
                self.sessions.up(session, stream, greeting, cut);
            }
            Event::Denied { session, number, needs } => {
                self.sessions.reply(session, number, &reading::denied(needs), &[]);
            }
            Event::SessionDown { session } => self.sessions.down(session),
            Event::ShutDown => {}
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        self.peers.flush(cx);
        self.sessions.flush(cx);
    }
}

impl Network for Net {
    fn send(&mut self, lane: Lane, envelope: &Envelope, payload: &Bytes) {
        self.peers.send(lane, envelope, payload);
    }

    fn reply(&mut self, session: SessionId, number: u64, reply: &Reply, payload: &[Bytes]) {
        self.sessions.reply(session, number, reply, payload);
    }

    fn backlog_bytes(&self, session: SessionId) -> u64 {
        self.sessions.backlog_bytes(session)
    }

    fn set_peers(&mut self, peers: &[(ReplicaId, String)]) {
        self.peers.set(peers);
    }
}
