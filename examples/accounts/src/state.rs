//! The accounts and their sessions, and what a command does to them: no clock, no chance, nothing from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use annals::Lsn;

use crate::command::{Command, Entry};
use crate::name::Name;
use crate::password::cost_of;
use crate::shards::Shards;
use crate::token::{RequestId, TokenHash, hex};

/// The version of snapshots that is written.
const VERSION: u8 = 1;
/// Sessions of one account. With one more, the oldest ends: so a state has a bound that its accounts give.
const SESSIONS_MAX: usize = 16;

/// All that the service knows. A clone is a view that stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    accounts: Shards<Name, Account>,
    sessions: Shards<TokenHash, Session>,
    history: History,
    /// How many accounts have a hash of which cost. It follows from the accounts, and is in no snapshot.
    #[serde(skip)]
    costs: BTreeMap<String, usize>,
}

/// Somebody who has registered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    /// The password's hash, with its salt and its cost.
    pub(crate) hash: String,
    /// How often the password was changed.
    pub(crate) changes: u64,
    /// When, in milliseconds since 1970.
    pub(crate) registered_ms: u64,
    registered_by: RequestId,
    changed_by: Option<RequestId>,
    /// The sessions that have not ended, the oldest first.
    sessions: Vec<TokenHash>,
}

/// Somebody who is logged in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// Who.
    pub(crate) name: Name,
    /// Until when, in milliseconds since 1970.
    pub(crate) until_ms: u64,
}

/// What came of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was done, now or when the same request came before.
    Done,
    /// Not done: somebody else has the name.
    NameTaken,
    /// Not done: the password is not the one any more that was checked.
    PasswordChanged,
}

/// A digest over all records in their order: nodes that have applied as much have the same.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct History {
    records: u64,
    digest: [u8; 32],
}

/// What a snapshot holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved<T> {
    version: u8,
    state: T,
}

impl State {
    /// Does what the record says.
    pub(crate) fn apply(&mut self, lsn: Lsn, entry: &Entry, bytes: &[u8]) -> Outcome {
        self.history.add(lsn, bytes);
        match &entry.command {
            Command::Register { name, hash, request } => self.register(name, hash, *request, entry.at_ms),
            Command::OpenSession { name, changes, token, until_ms, rehashed } => {
                let session = Session { name: name.clone(), until_ms: *until_ms };
                let opened = self.open_session(session, *changes, *token, entry.at_ms);
                if let (Outcome::Done, Some(hash)) = (opened, rehashed) {
                    self.set_hash(name, hash);
                }
                opened
            }
            Command::CloseSession { token } => {
                self.end_session(token);
                Outcome::Done
            }
            Command::ChangePassword { name, changes, hash, keep, request } => {
                self.change_password(name, *changes, hash, *keep, *request)
            }
        }
    }

    pub(crate) fn account(&self, name: &Name) -> Option<&Account> {
        self.accounts.find(name)
    }

    /// The session, if it is not over at this time.
    pub(crate) fn session(&self, token: &TokenHash, now_ms: u64) -> Option<&Session> {
        self.sessions.find(token).filter(|session| session.until_ms > now_ms)
    }

    pub(crate) fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// What the hashes of the accounts cost.
    pub(crate) fn costs(&self) -> BTreeSet<String> {
        self.costs.keys().cloned().collect()
    }

    /// The digest over all records so far, in hexadecimal digits.
    pub(crate) fn history(&self) -> String {
        hex(&self.history.digest)
    }

    /// A digest of the state itself, as a snapshot has it: nodes that have applied as much have the same.
    pub(crate) fn digest(&self) -> io::Result<String> {
        let mut bytes = vec![];
        self.save(&mut bytes)?;
        Ok(hex(&Sha256::digest(&bytes)))
    }

    /// Writes a snapshot.
    pub(crate) fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut to = io::BufWriter::new(to);
        serde_json::to_writer(&mut to, &Saved { version: VERSION, state: self })?;
        to.flush()
    }

    /// Reads a snapshot.
    pub(crate) fn load(from: &mut dyn Read) -> io::Result<State> {
        let saved: Saved<State> = serde_json::from_reader(io::BufReader::new(from))?;
        match saved.version {
            VERSION => Ok(saved.state.with_costs()),
            newer => Err(io::Error::other(format!(
                "the snapshot has version {newer}, and this program knows {VERSION}; start a newer program here"
            ))),
        }
    }

    fn register(&mut self, name: &Name, hash: &str, request: RequestId, at_ms: u64) -> Outcome {
        if let Some(account) = self.accounts.find(name) {
            return match account.registered_by == request {
                true => Outcome::Done,
                false => Outcome::NameTaken,
            };
        }
        let account = Account {
            hash: hash.to_owned(),
            changes: 0,
            registered_ms: at_ms,
            registered_by: request,
            changed_by: None,
            sessions: vec![],
        };
        self.accounts.insert(name.clone(), account);
        *self.costs.entry(cost_of(hash).to_owned()).or_default() += 1;
        Outcome::Done
    }

    /// Gives an account another hash.
    fn set_hash(&mut self, name: &Name, hash: &str) {
        let Some(account) = self.accounts.find_mut(name) else { return };
        let before = std::mem::replace(&mut account.hash, hash.to_owned());
        *self.costs.entry(cost_of(hash).to_owned()).or_default() += 1;
        let cost = cost_of(&before);
        if let Some(count) = self.costs.get_mut(cost) {
            *count -= 1;
            if *count == 0 {
                self.costs.remove(cost);
            }
        }
    }

    /// With the costs counted anew.
    fn with_costs(mut self) -> State {
        self.costs.clear();
        for account in self.accounts.values() {
            *self.costs.entry(cost_of(&account.hash).to_owned()).or_default() += 1;
        }
        self
    }

    fn open_session(&mut self, session: Session, changes: u64, token: TokenHash, at_ms: u64) -> Outcome {
        let account = self.accounts.find(&session.name).filter(|account| account.changes == changes);
        let Some(account) = account else { return Outcome::PasswordChanged };
        // Those that are over go first, then the oldest.
        let is_over = |token: &&TokenHash| self.session(token, at_ms).is_none();
        let mut gone: Vec<TokenHash> = account.sessions.iter().filter(is_over).copied().collect();
        if account.sessions.len() - gone.len() >= SESSIONS_MAX {
            gone.extend(account.sessions.first());
        }
        gone.iter().for_each(|token| self.end_session(token));
        if let Some(account) = self.accounts.find_mut(&session.name) {
            account.sessions.push(token);
        }
        self.sessions.insert(token, session);
        Outcome::Done
    }

    fn end_session(&mut self, token: &TokenHash) {
        let Some(session) = self.sessions.remove(token) else { return };
        if let Some(account) = self.accounts.find_mut(&session.name) {
            account.sessions.retain(|other| other != token);
        }
    }

    fn change_password(
        &mut self,
        name: &Name,
        changes: u64,
        hash: &str,
        keep: TokenHash,
        request: RequestId,
    ) -> Outcome {
        let Some(account) = self.accounts.find_mut(name) else { return Outcome::PasswordChanged };
        if account.changed_by == Some(request) {
            return Outcome::Done;
        }
        if account.changes != changes {
            return Outcome::PasswordChanged;
        }
        account.changes += 1;
        account.changed_by = Some(request);
        let others: Vec<TokenHash> =
            account.sessions.iter().filter(|token| **token != keep).copied().collect();
        self.set_hash(name, hash);
        others.iter().for_each(|token| self.end_session(token));
        Outcome::Done
    }
}

impl Account {
    /// Whether this request has registered it.
    pub(crate) fn was_registered_by(&self, request: RequestId) -> bool {
        self.registered_by == request
    }

    /// Whether this request has changed its password last.
    pub(crate) fn was_changed_by(&self, request: RequestId) -> bool {
        self.changed_by == Some(request)
    }
}

impl History {
    fn add(&mut self, lsn: Lsn, bytes: &[u8]) {
        let mut digest = Sha256::new();
        digest.update(self.digest);
        digest.update(lsn.get().to_le_bytes());
        digest.update(bytes);
        self.digest = digest.finalize().into();
        self.records += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    #[derive(Default)]
    struct Play {
        state: State,
        next: u64,
    }

    impl Play {
        fn says(&mut self, at_ms: u64, command: Command) -> Outcome {
            self.next += 1;
            let entry = Entry::new(at_ms, command);
            let bytes = entry.encode();
            self.state.apply(Lsn::new(self.next), &Entry::decode(&bytes).unwrap(), &bytes)
        }

        fn registers(&mut self, name: &str, request: RequestId) -> Outcome {
            self.says(1, Command::Register { name: named(name), hash: "hash 0".to_owned(), request })
        }

        fn logs_in(&mut self, at_ms: u64, changes: u64) -> (Outcome, TokenHash) {
            let token = Token::draw().hash();
            let until_ms = at_ms + 100;
            let (name, rehashed) = (named("ada"), None);
            let open = Command::OpenSession { name, changes, token, until_ms, rehashed };
            (self.says(at_ms, open), token)
        }

        fn logs_in_rehashed(&mut self, changes: u64, hash: &str) -> Outcome {
            let (name, token, rehashed) = (named("ada"), Token::draw().hash(), Some(hash.to_owned()));
            self.says(1, Command::OpenSession { name, changes, token, until_ms: 100, rehashed })
        }

        fn changes(&mut self, changes: u64, keep: TokenHash, request: RequestId) -> Outcome {
            let hash = format!("hash {}", changes + 1);
            self.says(5, Command::ChangePassword { name: named("ada"), changes, hash, keep, request })
        }
    }

    fn named(text: &str) -> Name {
        Name::typed(text).unwrap()
    }

    #[test]
    fn a_name_is_given_once_and_the_same_request_is_done_once() {
        let mut play = Play::default();
        let (first, second) = (RequestId::draw(), RequestId::draw());
        assert_eq!(play.registers("ada", first), Outcome::Done);
        let account = play.state.account(&named("ada")).cloned();
        assert_eq!(play.registers("ada", second), Outcome::NameTaken);
        assert_eq!(play.registers("ADA", second), Outcome::NameTaken);
        assert_eq!(play.registers("ada", first), Outcome::Done);
        assert_eq!(play.state.account(&named("ada")).cloned(), account);
        assert_eq!(play.state.accounts(), 1);
    }

    #[test]
    fn a_session_lasts_as_long_as_its_record_says() {
        let mut play = Play::default();
        play.registers("ada", RequestId::draw());
        let (opened, token) = play.logs_in(1000, 0);
        assert_eq!(opened, Outcome::Done);
        assert!(play.state.session(&token, 1099).is_some());
        assert!(play.state.session(&token, 1100).is_none());
    }

    #[test]
    fn a_session_needs_the_password_of_now() {
        let mut play = Play::default();
        play.registers("ada", RequestId::draw());
        let (_, token) = play.logs_in(1, 0);
        assert_eq!(play.changes(0, token, RequestId::draw()), Outcome::Done);
        assert_eq!(play.logs_in(2, 0).0, Outcome::PasswordChanged);
        assert_eq!(play.logs_in(2, 1).0, Outcome::Done);
        let (name, rehashed) = (named("nobody"), None);
        let nobody = Command::OpenSession { name, changes: 0, token, until_ms: 9, rehashed };
        assert_eq!(play.says(1, nobody), Outcome::PasswordChanged);
    }

    #[test]
    fn a_changed_password_ends_all_sessions_but_the_one_that_asked() {
        let mut play = Play::default();
        play.registers("ada", RequestId::draw());
        let (_, here) = play.logs_in(1, 0);
        let (_, elsewhere) = play.logs_in(1, 0);
        let request = RequestId::draw();
        assert_eq!(play.changes(0, here, request), Outcome::Done);
        assert!(play.state.session(&here, 2).is_some() && play.state.session(&elsewhere, 2).is_none());
        // Once more is the same once; another is not taken for it.
        assert_eq!(play.changes(0, here, request), Outcome::Done);
        assert_eq!(play.state.account(&named("ada")).unwrap().changes, 1);
        assert_eq!(play.changes(0, here, RequestId::draw()), Outcome::PasswordChanged);
    }

    #[test]
    fn a_closed_session_is_over_and_may_be_closed_again() {
        let mut play = Play::default();
        play.registers("ada", RequestId::draw());
        let (_, token) = play.logs_in(1, 0);
        assert_eq!(play.says(2, Command::CloseSession { token }), Outcome::Done);
        assert!(play.state.session(&token, 2).is_none());
        assert_eq!(play.says(2, Command::CloseSession { token }), Outcome::Done);
    }

    #[test]
    fn an_account_has_a_bounded_number_of_sessions() {
        let mut play = Play::default();
        play.registers("ada", RequestId::draw());
        let tokens: Vec<TokenHash> = (0..40).map(|_| play.logs_in(1, 0).1).collect();
        let alive =
            |play: &Play| tokens.iter().filter(|token| play.state.session(token, 1).is_some()).count();
        assert_eq!(alive(&play), SESSIONS_MAX);
        assert!(play.state.session(&tokens[39], 1).is_some());
        assert_eq!(play.state.sessions.len(), SESSIONS_MAX);
        // Those that are over make room.
        play.logs_in(500, 0);
        assert_eq!(play.state.sessions.len(), 1);
    }

    #[test]
    fn a_hash_at_another_cost_takes_the_place_of_the_old_one_and_changes_nothing_else() {
        let mut play = Play::default();
        let request = RequestId::draw();
        for (name, hash) in [("ada", "$a$m=1$salt$old"), ("ben", "$a$m=1$salt$his")] {
            play.says(1, Command::Register { name: named(name), hash: hash.to_owned(), request });
        }
        let (_, token) = play.logs_in(1, 0);
        let costs = |play: &Play| Vec::from_iter(play.state.costs());
        assert_eq!(costs(&play), ["$a$m=1"]);
        assert_eq!(play.logs_in_rehashed(0, "$a$m=2$salt$new"), Outcome::Done);
        let ada = play.state.account(&named("ada")).unwrap().clone();
        assert_eq!((ada.hash.as_str(), ada.changes, ada.sessions.len()), ("$a$m=2$salt$new", 0, 2));
        assert!(play.state.session(&token, 2).is_some());
        assert_eq!(costs(&play), ["$a$m=1", "$a$m=2"]);
        // Checked against an older password: that one is not brought back.
        play.changes(0, token, RequestId::draw());
        assert_eq!(play.logs_in_rehashed(0, "$a$m=2$salt$stale"), Outcome::PasswordChanged);
        assert_eq!(play.state.account(&named("ada")).unwrap().hash, "hash 1");
        assert_eq!(costs(&play), ["", "$a$m=1"]);
    }

    #[test]
    fn a_snapshot_gives_the_same_state_and_the_same_bytes() {
        let mut play = Play::default();
        for number in 0..200 {
            play.registers(&format!("user-{number}"), RequestId::draw());
        }
        play.registers("ada", RequestId::draw());
        let (_, token) = play.logs_in(1, 0);
        play.logs_in(1, 0);
        play.changes(0, token, RequestId::draw());
        let mut bytes = vec![];
        play.state.save(&mut bytes).unwrap();
        let mut loaded = State::load(&mut &bytes[..]).unwrap();
        assert_eq!(loaded, play.state);
        let mut again = vec![];
        loaded.save(&mut again).unwrap();
        assert_eq!(again, bytes);
        // And both go on in the same way.
        let entry = Entry::new(9, Command::CloseSession { token });
        let record = entry.encode();
        loaded.apply(Lsn::new(900), &entry, &record);
        play.state.apply(Lsn::new(900), &entry, &record);
        assert_eq!(loaded, play.state);
    }

    #[test]
    fn another_state_of_the_same_history_has_another_digest() {
        let mut play = Play::default();
        play.registers("ada", RequestId::draw());
        let (_, token) = play.logs_in(1, 0);
        let mut other = play.state.clone();
        assert_eq!(other.digest().unwrap(), play.state.digest().unwrap());
        other.end_session(&token);
        assert_eq!((other.history(), other.accounts()), (play.state.history(), play.state.accounts()));
        assert_ne!(other.digest().unwrap(), play.state.digest().unwrap());
    }

    #[test]
    fn half_a_snapshot_and_a_newer_one_are_refused() {
        let mut play = Play::default();
        play.registers("ada", RequestId::draw());
        let mut bytes = vec![];
        play.state.save(&mut bytes).unwrap();
        assert!(State::load(&mut &bytes[..bytes.len() - 1]).is_err());
        let newer = String::from_utf8(bytes).unwrap().replace("{\"version\":1", "{\"version\":2");
        let error = State::load(&mut newer.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("start a newer program"), "{error}");
    }

    #[test]
    fn another_order_is_another_history() {
        let entry = |name| {
            let (hash, request) = (String::new(), RequestId::draw());
            Entry::new(1, Command::Register { name: named(name), hash, request })
        };
        let (one, two) = (entry("one"), entry("two"));
        let played = |order: [&Entry; 2]| {
            let mut state = State::default();
            for (entry, lsn) in order.into_iter().zip(1..) {
                state.apply(Lsn::new(lsn), entry, &entry.encode());
            }
            state.history()
        };
        assert_eq!(played([&one, &two]), played([&one, &two]));
        assert_ne!(played([&one, &two]), played([&two, &one]));
    }
}
