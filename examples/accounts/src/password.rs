//! Passwords: how they are hashed, and on which threads.

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

/// Hashes passwords with Argon2id, on a bounded number of threads that nothing else waits for.
#[derive(Clone)]
pub(crate) struct Hasher {
    argon2: Argon2<'static>,
    /// Compared with where there is no account: the same work as where there is one.
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

    /// Whether it is the password of this hash. Without one it is not, and that costs as much to find out.
    pub(crate) async fn is_password(&self, password: Password, hash: Option<String>) -> Result<bool, Busy> {
        let argon2 = self.argon2.clone();
        let is_somebody = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let is_same = move || match PasswordHash::new(&hash) {
            Ok(parsed) => argon2.verify_password(password.0.as_bytes(), &parsed).is_ok(),
            Err(_) => false,
        };
        Ok(self.work(is_same).await? && is_somebody)
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
        assert!(hasher.is_password(password("a secret"), Some(one.clone())).await.unwrap());
        assert!(!hasher.is_password(password("a Secret"), Some(one)).await.unwrap());
        assert!(!hasher.is_password(password("a secret"), None).await.unwrap());
        assert!(!hasher.is_password(password("a secret"), Some("nonsense".to_owned())).await.unwrap());
    }

    #[tokio::test]
    async fn the_cost_of_a_hash_is_its_own() {
        let (cheap, dear) = (Hasher::new(64, 1).unwrap(), Hasher::new(256, 2).unwrap());
        let old = cheap.hash(password("a secret")).await.unwrap();
        assert!(dear.is_password(password("a secret"), Some(old)).await.unwrap());
        assert!(Hasher::new(0, 1).is_none());
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
