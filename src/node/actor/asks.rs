//! What clients, and the handles of this process, ask.

use bytes::Bytes;

use super::Node;
use crate::node::desks::{Job, Wanted};
use crate::node::driver::{Append, Input};
use crate::node::mail::Asker;
use crate::node::readers::{Key, ReadNote};
use crate::node::records::Records;
use crate::node::ticket::Promise;
use crate::node::tokens::{Asked, Pending};
use crate::protocol::request::{ClientRole, Refused, Reply, Request};
use crate::protocol::{Member, Role};
use crate::transport::Network;

impl Node {
    /// Takes a request; whatever becomes of it, the asker is answered once, or again and again by a subscription.
    pub(super) fn ask(
        &mut self,
        network: &mut dyn Network,
        (asker, role): (Asker, ClientRole),
        request: Request,
        payload: Bytes,
    ) {
        let needs = request.needs();
        if role < needs {
            return self.refuse(network, asker, Refused::Denied { needs });
        }
        // The core takes appends again once a hand-over has failed: nobody would answer them.
        if self.is_ending && request.appends() && self.driver.role() == Role::Primary {
            return self.refuse(network, asker, Refused::NotPrimary { primary: None });
        }
        let now = self.now();
        match request {
            Request::Status => {
                let status = Reply::Status(Box::new(self.status()));
                self.answer(network, asker, status, &[]);
            }
            Request::Append { producer, copies, sizes } => {
                let Ok(records) = Records::back_to_back(payload, sizes) else {
                    let bytes_max = self.config.limits.group_bytes_max;
                    return self.refuse(network, asker, Refused::BadSize { bytes_max });
                };
                let token = self.issue(asker, Asked::Append);
                self.driver.append(now, Append { token, producer, copies, records });
            }
            Request::Register => {
                let token = self.issue(asker, Asked::Register);
                self.driver.input(now, Input::Register { token });
            }
            Request::Linearize => {
                let token = self.issue(asker, Asked::Linearize);
                self.driver.input(now, Input::Read { token });
            }
            Request::Change(change) => {
                let token = self.issue(asker, Asked::Change);
                self.driver.input(now, Input::Change { token, change });
            }
            Request::Transfer { .. } if self.is_alone() => {
                let reason = "no other voter is connected; start another one first".to_owned();
                self.refuse(network, asker, Refused::NotPossible { reason });
            }
            Request::Transfer { to } => {
                let token = self.issue(asker, Asked::Transfer);
                self.driver.input(now, Input::Transfer { token, to });
            }
            Request::Promote => {
                let token = self.issue(asker, Asked::Promote);
                self.driver.input(now, Input::Promote { token });
            }
            Request::Snapshot => self.ask_snapshot(network, asker),
            Request::Trim { through } => self.ask_trim(network, asker, through),
            read => self.ask_readers(network, asker, read),
        }
    }

    /// The role is handed over, if this replica has it; whatever comes of that, it takes nothing more.
    pub(super) fn shut_down(&mut self, network: &mut dyn Network, promise: Promise) {
        self.is_ending = true;
        let transfer = Request::Transfer { to: None };
        self.ask(network, (Asker::Local(promise), ClientRole::Admin), transfer, Bytes::new());
    }

    /// What the readers' thread serves.
    fn ask_readers(&mut self, network: &mut dyn Network, asker: Asker, request: Request) {
        let key = match asker {
            Asker::Client { session, number } => Some((session, number)),
            Asker::Local(_) => None,
        };
        let life = match self.begin(key, &request) {
            Ok(life) => life,
            Err(refused) => return self.refuse(network, asker, refused),
        };
        let note = match (request, key) {
            (Request::Read { from, bytes_max }, _) => {
                ReadNote::Read(Job { asker, wanted: Wanted::Records(from), bytes_max })
            }
            (Request::Frames { range, bytes_max }, _) => {
                ReadNote::Read(Job { asker, wanted: Wanted::Frames(range), bytes_max })
            }
            (Request::Subscribe { from, credit_bytes }, Some(key)) => {
                ReadNote::Subscribe { key, life, from, credit: credit_bytes }
            }
            (Request::Credit { subscription, bytes }, Some((session, _))) => {
                ReadNote::Credit { key: (session, subscription), bytes }
            }
            (Request::Unsubscribe { subscription }, Some((session, _))) => {
                ReadNote::Unsubscribe((session, subscription))
            }
            (other, _) => {
                let reason = format!("{other:?} is for clients over the network");
                return self.refuse(network, asker, Refused::NotPossible { reason });
            }
        };
        self.tell_readers(note);
    }

    /// Notes what a client has under way, if it may have that; gives the life of a subscription that begins.
    fn begin(&mut self, key: Option<Key>, request: &Request) -> Result<u64, Refused> {
        let Some((session, number)) = key else { return Ok(0) };
        let Some(known) = self.sessions.get_mut(&session) else { return Ok(0) };
        match *request {
            Request::Read { .. } | Request::Frames { .. } => known.begin_read(number)?,
            Request::Subscribe { .. } => return known.begin_subscription(number),
            Request::Unsubscribe { subscription } => {
                known.end_subscription(subscription);
                self.held.retain(|held| *held != (session, subscription));
            }
            _ => {}
        }
        Ok(0)
    }

    /// Whether the connections to all other voters are lost.
    fn is_alone(&self) -> bool {
        let membership = self.driver.replica().membership();
        let is_away = |member: Member| member == self.me || self.lost.contains(&member.id);
        membership.is_some_and(|known| known.members().filter(|member| known.votes(*member)).all(is_away))
    }

    pub(super) fn refuse(&self, network: &mut dyn Network, asker: Asker, refused: Refused) {
        self.answer(network, asker, Reply::Refused(refused), &[]);
    }

    fn issue(&mut self, asker: Asker, asked: Asked) -> u64 {
        self.tokens.issue(Pending { asker, asked })
    }
}
