//! Passwords: how they are hashed, and on which threads.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::thread;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

/// The fewest characters of a new password.
const CHARS_MIN: usize = 8;
/// The most bytes of a password.
const BYTES_MAX: usize = 256;
/// Hashes that are made at the same time, at most: each takes its own memory.
const AT_ONCE_MAX: usize = 4;
/// Requests that wait for a hash, at most. With more the node says that it is busy.
const WAITING_MAX: usize = 64;

/// A password as somebody has typed it. It has no `Debug`, so that no log can show it.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Password(String);

/// Why a text cannot become a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadPassword;

/// Too many wait for a hash already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Busy;

/// What came of an attempt to log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Checked {
    /// Whether it is the account's password.
    pub(crate) is_right: bool,
    /// If so, and the account's hash has another cost than new ones: one with theirs.
    pub(crate) rehashed: Option<String>,
}

/// Hashes passwords with Argon2id, on a bounded number of threads that nothing else waits for.
#[derive(Clone)]
pub(crate) struct Hasher {
    argon2: Argon2<'static>,
    /// The hash of nobody's password.
    nobody: Arc<str>,
    threads: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Password {
    /// Whether it can become the password of an account.
    pub(crate) fn check(&self) -> Result<(), BadPassword> {
        self.check_size()?;
        if self.0.chars().count() < CHARS_MIN { Err(BadPassword) } else { Ok(()) }
    }

    /// Whether it may be hashed at all.
    pub(crate) fn check_size(&self) -> Result<(), BadPassword> {
        if self.0.len() > BYTES_MAX { Err(BadPassword) } else { Ok(()) }
    }
}

impl fmt::Display for BadPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a password has at least {CHARS_MIN} characters, and at most {BYTES_MAX} bytes")
    }
}

impl Hasher {
    /// A hasher with this cost: KiB of memory, and passes over them. `None` if Argon2 has no such cost.
    pub(crate) fn new(memory_kib: u32, passes: u32) -> Option<Hasher> {
        let params = Params::new(memory_kib, passes, 1, None).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // Of a password that is too long for anybody to have.
        let nobody = hash(&argon2, &"\0".repeat(BYTES_MAX + 1));
        let threads = thread::available_parallelism().map_or(1, usize::from).min(AT_ONCE_MAX);
        Some(Hasher {
            argon2,
            nobody: nobody.into(),
            threads: Arc::new(Semaphore::new(threads)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        })
    }

    /// A hash of the password, with a new salt.
    pub(crate) async fn hash(&self, password: Password) -> Result<String, Busy> {
        let argon2 = self.argon2.clone();
        self.work(move || hash(&argon2, &password.0)).await
    }

    /// Whether it is the password of this hash.
    pub(crate) async fn is_password(&self, password: Password, hash: String) -> Result<bool, Busy> {
        let argon2 = self.argon2.clone();
        self.work(move || is_same(&argon2, &password, &hash)).await
    }

    /// Whether it is the password of this hash; without one it is not. `costs` are those of all accounts: to find out takes one
    /// hash at each of them, whatever the account's own is, and also where there is none. So nobody can tell by the
    /// time that it takes which names there are.
    pub(crate) async fn check(
        &self,
        password: Password,
        hash: Option<String>,
        costs: BTreeSet<String>,
    ) -> Result<Checked, Busy> {
        let (argon2, nobody) = (self.argon2.clone(), Arc::clone(&self.nobody));
        self.work(move || {
            let mut is_right = false;
            for compared in comparisons(hash.as_deref(), &nobody, costs) {
                is_right |= is_same(&argon2, &password, &compared) && hash.as_ref() == Some(&compared);
            }
            let is_of_now = hash.is_none_or(|hash| cost_of(&hash) == cost_of(&nobody));
            let rehashed = (is_right && !is_of_now).then(|| self::hash(&argon2, &password.0));
            Checked { is_right, rehashed }
        })
        .await
    }

    /// Does what takes long on the threads for it.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let waits = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Busy)?;
        let turn = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| Busy)?;
        let worked = tokio::task::spawn_blocking(move || {
            // Held until the work is done, also when whoever asked has gone meanwhile.
            let _held = (waits, turn);
            work()
        });
        // It is not carried out only if the node is about to end.
        worked.await.map_err(|_| Busy)
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> String {
    let hash = argon2.hash_password(password.as_bytes());
    hash.expect("a password of that size and random salt can be hashed").to_string()
}

fn is_same(argon2: &Argon2<'_>, password: &Password, hash: &str) -> bool {
    // The cost is the hash's own.
    PasswordHash::new(hash).is_ok_and(|hash| argon2.verify_password(password.0.as_bytes(), &hash).is_ok())
}

/// What a hash says of how it was made, which is all but the salt and the hash itself.
pub(crate) fn cost_of(hash: &str) -> &str {
    hash.rsplitn(3, '$').nth(2).unwrap_or_default()
}

/// What a password is compared with: one hash of each cost, with the account's own among them.
fn comparisons(hash: Option<&str>, nobody: &str, mut costs: BTreeSet<String>) -> Vec<String> {
    costs.extend([nobody].into_iter().chain(hash).map(|hash| cost_of(hash).to_owned()));
    let made_up = &nobody[cost_of(nobody).len()..];
    let of_cost = |cost: String| match hash.filter(|hash| cost_of(hash) == cost) {
        Some(own) => own.to_owned(),
        None => cost + made_up,
    };
    costs.into_iter().map(of_cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password(text.to_owned())
    }

    #[tokio::test]
    async fn a_hash_is_of_one_password_and_no_two_are_alike() {
        let hasher = Hasher::new(64, 1).unwrap();
        let (one, two) = (hasher.hash(password("a secret")).await, hasher.hash(password("a secret")).await);
        let one = one.unwrap();
        assert!(one.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{one}");
        assert_ne!(one, two.unwrap());
        assert!(hasher.is_password(password("a secret"), one.clone()).await.unwrap());
        assert!(!hasher.is_password(password("a Secret"), one).await.unwrap());
        assert!(!hasher.is_password(password("a secret"), "nonsense".to_owned()).await.unwrap());
    }

    #[tokio::test]
    async fn a_right_password_at_another_cost_than_now_is_hashed_at_that_of_now() {
        let (cheap, dear) = (Hasher::new(64, 1).unwrap(), Hasher::new(256, 2).unwrap());
        let old = cheap.hash(password("a secret")).await.unwrap();
        let costs = BTreeSet::from([cost_of(&old).to_owned()]);
        let check = async |hasher: &Hasher, text: &str, hash: Option<&String>| {
            hasher.check(password(text), hash.cloned(), costs.clone()).await.unwrap()
        };
        let right = check(&dear, "a secret", Some(&old)).await;
        let new = right.rehashed.unwrap();
        assert!(right.is_right && new.starts_with("$argon2id$v=19$m=256,t=2,p=1$"), "{new}");
        // At which it stays.
        let (right, wrong) =
            (Checked { is_right: true, rehashed: None }, Checked { is_right: false, rehashed: None });
        assert_eq!(check(&dear, "a secret", Some(&new)).await, right);
        assert_eq!(check(&dear, "a Secret", Some(&new)).await, wrong);
        assert_eq!(check(&dear, "a Secret", Some(&old)).await, wrong);
        assert_eq!(check(&dear, "a secret", None).await, wrong);
        assert!(Hasher::new(0, 1).is_none());
    }

    #[tokio::test]
    async fn an_attempt_takes_the_same_work_whatever_the_name() {
        let hash = async |memory_kib| {
            let hasher = Hasher::new(memory_kib, 1).unwrap();
            hasher.hash(password("a secret")).await.unwrap()
        };
        let (first, old, now) = (hash(64).await, hash(128).await, hash(256).await);
        let nobody = Hasher::new(256, 1).unwrap().nobody;
        let costs: BTreeSet<String> = [&first, &old].map(|hash| cost_of(hash).to_owned()).into();
        for account in [None, Some(&first), Some(&old), Some(&now)] {
            let compared = comparisons(account.map(String::as_str), &nobody, costs.clone());
            // One hash at each cost: the three of them have the same of salt and hash, too.
            let work: Vec<(&str, usize)> = compared.iter().map(|hash| (cost_of(hash), hash.len())).collect();
            let expected: BTreeSet<_> = [&first, &old, &now].map(|hash| (cost_of(hash), hash.len())).into();
            assert_eq!(work, Vec::from_iter(expected), "{account:?}");
            assert!(compared.iter().all(|hash| PasswordHash::new(hash).is_ok()), "{compared:?}");
            assert!(account.is_none_or(|own| compared.contains(own)));
        }
    }

    #[tokio::test]
    async fn whoever_comes_when_too_many_wait_is_told_so() {
        let hasher = Hasher::new(64, 1).unwrap();
        let all = Arc::clone(&hasher.waiting).try_acquire_many_owned(WAITING_MAX as u32).unwrap();
        assert_eq!(hasher.hash(password("a secret")).await, Err(Busy));
        drop(all);
        assert!(hasher.hash(password("a secret")).await.is_ok());
    }

    #[test]
    fn passwords_have_a_size() {
        assert_eq!(password("1234567").check(), Err(BadPassword));
        assert_eq!(password("12345678").check(), Ok(()));
        assert_eq!(password(&"\u{e4}".repeat(8)).check(), Ok(()));
        assert_eq!(password(&"x".repeat(256)).check(), Ok(()));
        assert_eq!(password(&"x".repeat(257)).check(), Err(BadPassword));
    }
}
