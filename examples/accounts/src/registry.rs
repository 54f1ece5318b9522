//! The service itself: what may be asked, each answered by this node.
//!
//! Whoever asks two nodes one after the other sees the second no older than the first: a look-up waits until this node
//! has applied all that was committed when it was asked (S8).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annals::client::{Client, ClientError};
use annals::node::Replica;
use tokio::time::timeout;

use crate::command::{Command, Entry};
use crate::machine::Seen;
use crate::name::Name;
use crate::password::{Busy, Hasher, Password};
use crate::state::{Account, Outcome, Session, State};
use crate::token::{RequestId, Token, TokenHash};

/// What a node can do for a user.
pub(crate) struct Registry {
    pub(crate) seen: Arc<Seen>,
    pub(crate) client: Client,
    pub(crate) replica: Replica,
    pub(crate) hasher: Hasher,
    /// How long a session lasts.
    pub(crate) session: Duration,
    /// How long a request may wait for the cluster.
    pub(crate) patience: Duration,
}

/// Why something was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The name belongs to somebody else.
    NameTaken,
    /// There is no such name, or the password is another: the same for both.
    WrongLogin,
    /// There is no such session, or it is over.
    NoSession,
    /// The old password is not the right one.
    WrongPassword,
    /// This node has too much to do.
    Busy,
    /// There is no primary with a quorum now. Nothing was done.
    Unavailable,
    /// Nobody knows whether it was done: the same request again, with the same number, finds out.
    Unknown,
}

impl Registry {
    /// Looks at this node's state, as old as it may be, as long as that takes: others go on meanwhile.
    pub(crate) async fn study<T: Send + 'static>(
        &self,
        study: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let view = self.seen.look(State::clone);
        Ok(self.hasher.work(move || study(&view)).await?)
    }

    /// Opens an account. With the same number again it is the same account.
    pub(crate) async fn register(
        &self,
        name: Name,
        password: Password,
        request: RequestId,
    ) -> Result<(), Refusal> {
        // Accounts stay: what is taken here is taken everywhere, and needs no hash.
        let known = |state: &State| state.account(&name).map(|account| account.was_registered_by(request));
        match self.seen.look(known) {
            Some(true) => return Ok(()),
            Some(false) => return Err(Refusal::NameTaken),
            None => {}
        }
        let hash = self.hasher.hash(password).await?;
        match self.write(Command::Register { name, hash, request }).await? {
            Outcome::Done => Ok(()),
            Outcome::NameTaken | Outcome::PasswordChanged => Err(Refusal::NameTaken),
        }
    }

    /// Opens a session, and says when it is over.
    pub(crate) async fn log_in(&self, name: Name, password: Password) -> Result<(Token, Session), Refusal> {
        self.catch_up().await?;
        let known = |account: &Account| (account.hash.clone(), account.changes);
        let (account, costs) = self.seen.look(|state| (state.account(&name).map(known), state.costs()));
        let (hash, changes) = account.unzip();
        let checked = self.hasher.check(password, hash, costs).await?;
        if !checked.is_right {
            return Err(Refusal::WrongLogin);
        }
        let token = Token::draw();
        let until_ms = now_ms().saturating_add(as_ms(self.session));
        let open = Command::OpenSession {
            name: name.clone(),
            changes: changes.unwrap_or_default(),
            token: token.hash(),
            until_ms,
            rehashed: checked.rehashed,
        };
        match self.write(open).await? {
            Outcome::Done => Ok((token, Session { name, until_ms })),
            Outcome::PasswordChanged | Outcome::NameTaken => Err(Refusal::WrongLogin),
        }
    }

    /// Whose session this is.
    pub(crate) async fn who_am_i(&self, token: &Token) -> Result<Session, Refusal> {
        self.catch_up().await?;
        let session = self.seen.look(|state| state.session(&token.hash(), now_ms()).cloned());
        session.ok_or(Refusal::NoSession)
    }

    /// Ends a session. That there is none is no error: it is what was wanted.
    pub(crate) async fn log_out(&self, token: &Token) -> Result<(), Refusal> {
        self.catch_up().await?;
        if self.seen.look(|state| state.session(&token.hash(), 0).is_none()) {
            return Ok(());
        }
        self.write(Command::CloseSession { token: token.hash() }).await.map(drop)
    }

    /// Whose session this is, as far as this node knows: for what is asked again in any case.
    pub(crate) fn probably(&self, token: &Token) -> Option<Name> {
        self.seen.look(|state| state.session(&token.hash(), now_ms()).map(|session| session.name.clone()))
    }

    /// Changes the password of whoever has this session, and ends all other sessions. With the same number again it is
    /// the same change.
    pub(crate) async fn change_password(
        &self,
        token: &Token,
        (old, new): (Password, Password),
        request: RequestId,
    ) -> Result<(), Refusal> {
        let session = self.who_am_i(token).await?;
        let known =
            |account: &Account| (account.hash.clone(), account.changes, account.was_changed_by(request));
        let account = self.seen.look(|state| state.account(&session.name).map(known));
        let Some((hash, changes, is_done)) = account else { return Err(Refusal::NoSession) };
        if is_done {
            return Ok(());
        }
        if !self.hasher.is_password(old, hash).await? {
            return Err(Refusal::WrongPassword);
        }
        let hash = self.hasher.hash(new).await?;
        let (name, keep): (Name, TokenHash) = (session.name, token.hash());
        match self.write(Command::ChangePassword { name, changes, hash, keep, request }).await? {
            Outcome::Done => Ok(()),
            Outcome::PasswordChanged | Outcome::NameTaken => Err(Refusal::WrongPassword),
        }
    }

    /// Writes a record, and waits for what comes of it in this node's own state.
    async fn write(&self, command: Command) -> Result<Outcome, Refusal> {
        let entry = Entry::new(now_ms(), command);
        let expected = self.seen.expect(entry.nonce);
        let ticket = self.client.append_async(&entry.encode()).await.map_err(refusal)?;
        ticket.await.map_err(refusal)?;
        // It is committed; only what came of it may not be known here in time.
        let outcome = timeout(self.patience, expected.outcome()).await;
        outcome.ok().flatten().ok_or(Refusal::Unknown)
    }

    /// Waits until this node's state has all that was committed when it was asked.
    async fn catch_up(&self) -> Result<(), Refusal> {
        let through = self.client.linearizable_read().await.map_err(|_| Refusal::Unavailable)?;
        let applied = self.replica.applied(through).map_err(|_| Refusal::Unavailable)?;
        match timeout(self.patience, applied).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Refusal::Unavailable),
        }
    }
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Refusal {
        Refusal::Busy
    }
}

fn refusal(error: ClientError) -> Refusal {
    match error {
        ClientError::Unknown => Refusal::Unknown,
        ClientError::Full => Refusal::Busy,
        ClientError::TimedOut { .. } | ClientError::Closed => Refusal::Unavailable,
        other => {
            tracing::error!(error = %other, "the cluster has refused a record");
            Refusal::Unavailable
        }
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    as_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
