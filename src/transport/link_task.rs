//! The task that each link is in the links' thread.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::awaited::{Asked, Awaited};
use super::close::CloseCode;
use super::error::TransportError;
use super::frame::{FrameLimits, Greeting};
use super::link::{Credentials, LinkEvents, LinkOptions};
use super::outbox::Outbox;
use super::reading::Input;
use super::tls::{self, Speech};
use super::trunk::{Share, Thread};
use crate::protocol::request::{self, ClientRole, Reply, Request};
use crate::protocol::wire::BadMessage;
use crate::types::ReplicaId;

/// The head of a reply: what it says of its records, or of a whole cluster.
const REPLY_HEAD_BYTES_MAX: u32 = 4 << 20;
/// Reads in a row, before other links have their turn.
const READS_MAX: usize = 8;
/// A replica that stays silent is probed each time so many probes would have been due.
const SILENT_PROBES_MANY: u32 = 8;

/// What a link's owner has left for its task.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    state: Mutex<State>,
    backlog_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    outbox: Outbox,
    asked: Vec<Asked>,
    is_closed: bool,
    /// Of the task, while it sleeps.
    waker: Option<Waker>,
}

impl Outgoing {
    pub(crate) fn put(
        &self,
        number: u64,
        request: &Request,
        payload: &[Bytes],
    ) -> Result<(), TransportError> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(TransportError::Closed);
        }
        let before = state.outbox.bytes();
        state.outbox.put(number, |out| request::encode_request(request, out), payload);
        state.asked.push(Asked::by(number, request));
        // Relaxed: a hint for whoever throttles itself.
        self.backlog_bytes.fetch_add(state.outbox.bytes() - before, Ordering::Relaxed);
        let waker = state.waker.take();
        drop(state);
        // Once for each sleep of the task, and not under the lock that it takes first.
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    pub(crate) fn backlog_bytes(&self) -> u64 {
        self.backlog_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Moves what is there behind what waits already, and with it what is awaited now. Whether it is open still.
    fn take(&self, outbox: &mut Outbox, awaited: &mut Awaited, cx: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            return false;
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        outbox.append(&mut state.outbox);
        state.asked.drain(..).for_each(|asked| awaited.ask(asked));
        true
    }

    fn is_closed(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        state.waker = Some(cx.waker().clone());
        state.is_closed
    }
}

/// Begins to connect.
pub(crate) fn spawn(
    credentials: &Credentials,
    address: &str,
    options: LinkOptions,
    events: Arc<dyn LinkEvents>,
    outgoing: Arc<Outgoing>,
) -> Result<(), TransportError> {
    let thread = Thread::shared()?;
    let share = thread.share(credentials, address, &options);
    let address = address.to_owned();
    thread.handle.spawn(async move {
        let error = {
            let mut opening = pin!(timeout(options.connect_max, open(share, &address, &options)));
            let opened = poll_fn(|cx| {
                if outgoing.is_closed(cx) {
                    return Poll::Ready(Err(TransportError::Closed));
                }
                let unreachable = TransportError::Unreachable { address: address.clone() };
                opening.as_mut().poll(cx).map(|done| done.unwrap_or(Err(unreachable)))
            });
            match opened.await {
                Ok(opened) => Link::new(opened, &options, &address).run(&outgoing, &*events).await,
                Err(error) => error,
            }
        };
        outgoing.close();
        events.closed(error);
    });
    Ok(())
}

/// A link that stands.
struct Opened {
    share: Share,
    connection: Connection,
    output: SendStream,
    stream: RecvStream,
    input: Input,
    id: ReplicaId,
    role: ClientRole,
}

async fn open(share: Share, address: &str, options: &LinkOptions) -> Result<Opened, TransportError> {
    let connection = share.connection().await?;
    let ended = |what: String| match connection.close_reason() {
        Some(why) => tls::explain(&why, address, Speech::Client),
        None => TransportError::Other { reason: what },
    };
    let (mut output, mut stream) = connection.open_bi().await.map_err(|why| ended(why.to_string()))?;
    let greeting = Greeting { kind: 0, id: 0, text: String::new() }.encode();
    output.write_chunk(greeting).await.map_err(|why| ended(why.to_string()))?;
    let limits =
        FrameLimits { head_bytes_max: REPLY_HEAD_BYTES_MAX, payload_bytes_max: options.reply_bytes_max };
    let mut input = Input::new(limits);
    // Only now it is known that the other side takes this one's certificate: TLS lets a client finish first.
    while input.assembler.greeting().is_none() {
        if !input.read(&mut stream).await? {
            return Err(ended("the replica has nothing to say".to_owned()));
        }
    }
    let greeting = input.assembler.greeting().expect("just seen");
    let id = ReplicaId::new(greeting.id);
    let role = match greeting.kind {
        0 => ClientRole::Read,
        1 => ClientRole::Append,
        2 => ClientRole::Admin,
        _ => return Err(TransportError::BadMessage(BadMessage::Malformed)),
    };
    Ok(Opened { share, connection, output, stream, input, id, role })
}

/// How often a silent replica is looked after.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Pace {
    /// A reply is due.
    Urgent,
    /// There are only subscriptions, which have nothing to say as long as nothing happens.
    Quiet,
}

impl Pace {
    fn pause(self, probe: Duration) -> Duration {
        match self {
            Pace::Urgent => probe,
            Pace::Quiet => probe * SILENT_PROBES_MANY,
        }
    }
}

/// A link at work.
struct Link<'a> {
    opened: Opened,
    address: &'a str,
    options: &'a LinkOptions,
    outbox: Outbox,
    replies: Vec<(u64, Reply, Bytes)>,
    awaited: Awaited,
    has_heard: bool,
    silent_probes: u32,
    /// Runs while replies are awaited.
    timer: Pin<Box<Sleep>>,
    timed: Option<Pace>,
}

impl<'a> Link<'a> {
    fn new(opened: Opened, options: &'a LinkOptions, address: &'a str) -> Link<'a> {
        Link {
            opened,
            address,
            options,
            outbox: Outbox::default(),
            replies: Vec::new(),
            awaited: Awaited::default(),
            has_heard: true,
            silent_probes: 0,
            timer: Box::pin(sleep_until(Instant::now())),
            timed: None,
        }
    }

    /// Until it ends; says why.
    async fn run(mut self, outgoing: &Outgoing, events: &dyn LinkEvents) -> TransportError {
        events.opened(self.opened.id, self.opened.role);
        let error = poll_fn(|cx| self.poll(cx, outgoing, events)).await;
        let Opened { connection, output, stream, .. } = &mut self.opened;
        let error = match connection.close_reason() {
            // Another link has seen that the replica is gone.
            Some(ConnectionError::TimedOut | ConnectionError::LocallyClosed) => TransportError::Lost,
            Some(why) => tls::explain(&why, self.address, Speech::Client),
            None => error,
        };
        let code = CloseCode::of(&error).unwrap_or(CloseCode::Done);
        // The connection is shared: only what this link has of it ends.
        let _ = output.reset(code.number());
        let _ = stream.stop(code.number());
        error
    }

    /// Sends what is there and takes what has come; ready with what ends the link.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &Outgoing,
        events: &dyn LinkEvents,
    ) -> Poll<TransportError> {
        let ended = self.poll_read(cx, events);
        if !outgoing.take(&mut self.outbox, &mut self.awaited, cx) {
            return Poll::Ready(TransportError::Closed);
        }
        let before = self.outbox.bytes();
        let is_broken = matches!(self.outbox.poll_write(&mut self.opened.output, cx), Poll::Ready(Err(_)));
        outgoing.backlog_bytes.fetch_sub(before - self.outbox.bytes(), Ordering::Relaxed);
        if ended.is_ready() || is_broken {
            return if is_broken { Poll::Ready(TransportError::Closed) } else { ended };
        }
        self.poll_timer(cx)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<TransportError> {
        while !self.awaited.is_empty() && !self.options.probe.is_zero() {
            let pace = if self.awaited.is_urgent() { Pace::Urgent } else { Pace::Quiet };
            // Whoever asks something while it is quiet does not wait for as long.
            if self.timed.is_none_or(|timed| timed > pace) {
                self.timed = Some(pace);
                self.timer.as_mut().reset(Instant::now() + pace.pause(self.options.probe));
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                break;
            }
            self.timed = None;
            if self.is_gone(pace) {
                return Poll::Ready(TransportError::Lost);
            }
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, events: &dyn LinkEvents) -> Poll<TransportError> {
        let Opened { stream, input, .. } = &mut self.opened;
        let mut ended = Poll::Pending;
        for reads in 1.. {
            match pin!(input.read(stream)).poll(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(true)) if reads < READS_MAX => {}
                Poll::Ready(Ok(true)) => {
                    cx.waker().wake_by_ref();
                    break;
                }
                Poll::Ready(Ok(false)) => {
                    ended = Poll::Ready(TransportError::Closed);
                    break;
                }
                Poll::Ready(Err(error)) => {
                    ended = Poll::Ready(error);
                    break;
                }
            }
        }
        for frame in input.frames.drain(..) {
            match request::decode_reply(&frame.head) {
                Ok(reply) => self.replies.push((frame.number, reply, frame.payload)),
                Err(why) => ended = Poll::Ready(TransportError::BadMessage(why)),
            }
        }
        if !self.replies.is_empty() {
            self.has_heard = true;
            self.replies.iter().for_each(|(number, reply, _)| self.awaited.take(*number, reply));
            events.replies(&mut self.replies);
            self.replies.clear();
        }
        ended
    }

    /// Whether the host says that the process is gone. Asked only while something is awaited and nothing is heard.
    fn is_gone(&mut self, pace: Pace) -> bool {
        if std::mem::take(&mut self.has_heard) || self.awaited.is_empty() {
            self.silent_probes = 0;
            return false;
        }
        self.silent_probes += 1;
        // At once, and then less and less often: a replica that is merely slow has enough to do.
        let is_due = pace == Pace::Quiet
            || self.silent_probes.is_power_of_two()
            || self.silent_probes.is_multiple_of(SILENT_PROBES_MANY);
        is_due && self.opened.share.is_gone(self.options.probe)
    }
}
