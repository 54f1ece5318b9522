//! Descriptors of one file, of which each write in flight has its own.

use std::io;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// As many descriptors as writes were in flight at once, or as the operating system grants: at least one.
#[derive(Debug)]
pub(super) struct Descriptors<T> {
    held: Mutex<Held<T>>,
    /// Signalled when one is given back, or is closed.
    back: Condvar,
}

#[derive(Debug)]
struct Held<T> {
    idle: Vec<T>,
    /// Those that are in use too.
    open: usize,
}

impl<T> Descriptors<T> {
    /// Begins with one.
    pub(super) fn new(first: T) -> Descriptors<T> {
        Descriptors { held: Mutex::new(Held { idle: vec![first], open: 1 }), back: Condvar::new() }
    }

    /// Lets `work` have a descriptor for itself. If none is idle one more is opened; where there are too many open
    /// files, the work waits for one that is in use. A descriptor with which something failed is closed: nobody may
    /// believe it any more.
    ///
    /// # Errors
    /// What `work` says; what `open` says if there is nothing to wait for.
    pub(super) fn with_one<R>(
        &self,
        open: impl Fn() -> io::Result<T>,
        work: impl FnOnce(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let descriptor = self.take(open)?;
        let mut lent = Lent { descriptors: self, descriptor: None };
        let done = work(&descriptor);
        lent.descriptor = done.is_ok().then_some(descriptor);
        done
    }

    fn take(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut held = self.held.lock();
        loop {
            if let Some(idle) = held.idle.pop() {
                return Ok(idle);
            }
            match MutexGuard::unlocked(&mut held, &open) {
                Ok(opened) => {
                    held.open += 1;
                    return Ok(opened);
                }
                Err(_) if !held.idle.is_empty() => {}
                Err(error) if is_shortage(&error) && held.open > 0 => self.back.wait(&mut held),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A descriptor in use: given back, or else counted as closed, also if the work panics.
struct Lent<'a, T> {
    descriptors: &'a Descriptors<T>,
    descriptor: Option<T>,
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        let mut held = self.descriptors.held.lock();
        match self.descriptor.take() {
            Some(descriptor) => held.idle.push(descriptor),
            None => held.open -= 1,
        }
        drop(held);
        self.descriptors.back.notify_all();
    }
}

/// Whether there are too many open files, in the process or in the system.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].into_iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn too_many() -> io::Result<u32> {
        Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()))
    }

    #[test]
    fn a_write_never_fails_for_too_many_open_files_while_others_are_in_flight() {
        let descriptors = Descriptors::new(7);
        let (began, has_begun) = channel();
        let (finish, may_finish): (_, Receiver<()>) = channel();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let may_finish = may_finish;
                descriptors.with_one(too_many, |_| {
                    began.send(()).unwrap();
                    may_finish.recv().unwrap();
                    Ok(())
                })
            });
            has_begun.recv().unwrap();
            let second = threads.spawn(|| descriptors.with_one(too_many, |descriptor| Ok(*descriptor)));
            finish.send(()).unwrap();
            assert_eq!(second.join().unwrap().unwrap(), 7);
        });
    }

    #[test]
    fn writes_in_flight_have_descriptors_of_their_own_where_there_are_enough() {
        let descriptors = Descriptors::new(1);
        let both = descriptors.with_one(too_many, |one| {
            let other = descriptors.with_one(|| Ok(2), |other| Ok(*other))?;
            Ok((*one, other))
        });
        assert_eq!(both.unwrap(), (1, 2));
    }

    #[test]
    fn a_descriptor_with_which_a_write_failed_is_not_used_again() {
        let descriptors = Descriptors::new(1);
        let failed: io::Result<()> = descriptors.with_one(too_many, |_| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err());
        assert_eq!(descriptors.with_one(|| Ok(2), |next| Ok(*next)).unwrap(), 2);
        let failed: io::Result<()> = descriptors.with_one(too_many, |_| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err());
        assert!(descriptors.with_one(too_many, |_| Ok(())).is_err(), "there is none to wait for");
    }
}
