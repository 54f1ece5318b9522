//! Subscriptions: committed records as they come, taken up again wherever the last link was lost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::calls::Route;
use super::{Act, Asked, LinkId, Machine, Target};
use crate::client::error::{ClientError, Result};
use crate::protocol::request::{RecordHead, Refused, Reply, Request};
use crate::types::Lsn;

/// One subscription of this client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FeedId(u64);

/// What a subscription has brought: records, or why there will be no more.
pub(crate) type Delivery = Result<(Vec<RecordHead>, Bytes)>;

/// Where records are delivered, in the order of their LSNs. Called outside of all locks.
pub(crate) trait Sink: Send + Sync + fmt::Debug {
    /// Takes what has come.
    fn deliver(&self, delivery: Delivery);
}

/// A subscription to be made.
#[derive(Debug)]
pub(crate) struct Feed {
    /// From whom.
    pub(crate) target: Target,
    /// From which record on.
    pub(crate) from: Lsn,
    /// Bytes of records that are on their way or not read, at most.
    pub(crate) window: u64,
    /// Where to.
    pub(crate) sink: Arc<dyn Sink>,
}

#[derive(Debug, Default)]
pub(super) struct Feeds {
    open: BTreeMap<FeedId, Open>,
    names: u64,
}

#[derive(Debug)]
struct Open {
    feed: Feed,
    /// Bytes that were delivered, and not read.
    unread: u64,
    /// Bytes that were read, and not given as credit yet.
    owed: u64,
    /// The link and the number of its request.
    over: Option<(LinkId, u64)>,
    /// It is not asked for again before then.
    resume_at: Option<Instant>,
    refusals: u32,
}

impl Feeds {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().filter(|open| open.over.is_none()).filter_map(|open| open.resume_at).min()
    }

    /// Whether one of them waits for a primary.
    pub(super) fn wants_primary(&self) -> bool {
        self.open.values().any(|open| open.feed.target == Target::Primary && open.over.is_none())
    }

    /// Its link is lost.
    pub(super) fn idle(&mut self, feed: FeedId, now: Instant) {
        if let Some(open) = self.open.get_mut(&feed) {
            (open.over, open.resume_at) = (None, Some(now));
        }
    }
}

impl Machine {
    /// Subscribes, as soon as there is somebody to ask.
    pub(crate) fn subscribe(&mut self, now: Instant, feed: Feed) -> FeedId {
        self.feeds.names += 1;
        let id = FeedId(self.feeds.names);
        let open = Open { feed, unread: 0, owed: 0, over: None, resume_at: Some(now), refusals: 0 };
        self.feeds.open.insert(id, open);
        self.seek(now);
        self.feed_all(now);
        id
    }

    /// So many bytes were read: as many more may come.
    pub(crate) fn consumed(&mut self, feed: FeedId, bytes: u64) {
        let Some(open) = self.feeds.open.get_mut(&feed) else { return };
        open.unread = open.unread.saturating_sub(bytes);
        open.owed += bytes;
        if open.owed < open.feed.window / 2 {
            return;
        }
        let Some((link, subscription)) = open.over else { return };
        let bytes = std::mem::take(&mut open.owed);
        self.send_aside(link, Request::Credit { subscription, bytes });
    }

    /// No more of it.
    pub(crate) fn unsubscribe(&mut self, feed: FeedId) {
        let Some(open) = self.feeds.open.remove(&feed) else { return };
        if let Some((link, subscription)) = open.over {
            self.asked.remove(&subscription);
            self.send_aside(link, Request::Unsubscribe { subscription });
        }
    }

    /// Asks for those that nothing comes for.
    pub(super) fn feed_all(&mut self, now: Instant) {
        if self.feeds.open.is_empty() {
            return;
        }
        let leader = self.leader();
        let is_astray = |open: &Open| {
            let over = open.over.map(|(link, _)| link);
            open.feed.target == Target::Primary && leader.is_some() && over.is_some() && over != leader
        };
        let of = |wanted: &dyn Fn(&Open) -> bool, feeds: &Feeds| -> Vec<FeedId> {
            feeds.open.iter().filter(|(_, open)| wanted(open)).map(|(id, _)| *id).collect()
        };
        for id in of(&is_astray, &self.feeds) {
            let (link, subscription) = self.feeds.open[&id].over.expect("astray over some link");
            self.asked.remove(&subscription);
            self.send_aside(link, Request::Unsubscribe { subscription });
            self.feeds.idle(id, now);
        }
        let is_due = |open: &Open| open.over.is_none() && open.resume_at.is_none_or(|at| at <= now);
        for id in of(&is_due, &self.feeds) {
            self.feed_one(now, id);
        }
    }

    fn feed_one(&mut self, now: Instant, id: FeedId) {
        let target = self.feeds.open[&id].feed.target.clone();
        let route = self.route(now, &target);
        let open = self.feeds.open.get_mut(&id).expect("looked at above");
        match route {
            Route::Over(link) => {
                let credit_bytes = open.feed.window.saturating_sub(open.unread).max(1);
                (open.owed, open.resume_at) = (0, None);
                let request = Request::Subscribe { from: open.feed.from, credit_bytes };
                let number = self.send_aside(link, request);
                self.feeds.open.get_mut(&id).expect("looked at above").over = Some((link, number));
                self.asked.insert(number, (link, Asked::Feed(id)));
            }
            Route::Later(at) => open.resume_at = at,
            Route::Nowhere => {
                let reason = "no such replica is known; name its address as an endpoint".into();
                self.end_feed(id, ClientError::NotPossible { reason });
            }
        }
    }

    /// Something of which no reply is awaited, or one that comes when it comes.
    fn send_aside(&mut self, link: LinkId, request: Request) -> u64 {
        self.numbers += 1;
        let request = Arc::new(request);
        self.acts.push_back(Act::Send { link, number: self.numbers, request, payload: Bytes::new() });
        self.numbers
    }

    pub(super) fn feed_answered(
        &mut self,
        now: Instant,
        id: FeedId,
        number: u64,
        reply: Reply,
        payload: Bytes,
    ) {
        let Some(open) = self.feeds.open.get_mut(&id) else { return };
        let Some((link, _)) = open.over.filter(|(_, of)| *of == number) else { return };
        match reply {
            Reply::Records { records, next, .. } => {
                let Some(fresh) = fresh(&records, &payload, open.feed.from) else {
                    return self.distrust(now, link);
                };
                open.refusals = 0;
                open.feed.from = open.feed.from.max(next);
                if let Some((records, payload)) = fresh {
                    open.unread += payload.len() as u64;
                    let sink = Arc::clone(&open.feed.sink);
                    self.acts.push_back(Act::Deliver { sink, delivery: Ok((records, payload)) });
                }
            }
            Reply::Refused(refused) => {
                self.asked.remove(&number);
                self.feed_refused(now, id, refused);
            }
            _ => self.distrust(now, link),
        }
    }

    fn feed_refused(&mut self, now: Instant, id: FeedId, refused: Refused) {
        self.note(&refused);
        let open = self.feeds.open.get_mut(&id).expect("looked at before");
        let (link, asked) = (open.over.take(), open.feed.from);
        match refused {
            Refused::NotPrimary { .. } | Refused::Unknown | Refused::Busy => {
                let pause = self.chance.pause(self.settings.pause, open.refusals);
                open.refusals = open.refusals.saturating_add(1);
                open.resume_at = Some(now + pause);
                let is_leader = link.is_some_and(|(link, _)| Some(link) == self.leader());
                if let (Refused::NotPrimary { primary }, true) = (refused, is_leader) {
                    self.leave(now, primary);
                }
            }
            refused => self.end_feed(id, ClientError::refused(refused, asked, 0)),
        }
    }

    fn end_feed(&mut self, id: FeedId, error: ClientError) {
        if let Some(open) = self.feeds.open.remove(&id) {
            self.acts.push_back(Act::Deliver { sink: open.feed.sink, delivery: Err(error) });
        }
    }

    pub(super) fn close_feeds(&mut self) {
        while let Some((id, _)) = self.feeds.open.first_key_value() {
            self.end_feed(*id, ClientError::Closed);
        }
    }
}

/// Records that were not delivered before, if any; `None` for what cannot be: out of order, or other bytes than theirs.
#[allow(clippy::type_complexity, reason = "the inner option says that there is nothing new")]
fn fresh(records: &[RecordHead], payload: &Bytes, from: Lsn) -> Option<Option<(Vec<RecordHead>, Bytes)>> {
    if !is_whole(records, payload) {
        return None;
    }
    let old = records.partition_point(|head| head.lsn < from);
    let skipped: usize = records[..old].iter().map(|head| head.bytes as usize).sum();
    Some((old < records.len()).then(|| (records[old..].to_vec(), payload.slice(skipped..))))
}

/// Whether the payload is exactly that of these records, which are in order.
pub(crate) fn is_whole(records: &[RecordHead], payload: &Bytes) -> bool {
    let bytes: u64 = records.iter().map(|head| u64::from(head.bytes)).sum();
    bytes == payload.len() as u64 && records.is_sorted_by(|one, next| one.lsn < next.lsn)
}
