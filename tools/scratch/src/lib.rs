//! What the tests of the tools share: a directory of its own for each test, the program run in it, and the commands
//! that the project's pages tell people to type.
//!
//! Fails like a test: whatever cannot be done here ends the test with the reason.

pub mod pages;
pub mod script;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// A directory for one test with a program to run in it, removed at its end unless the test fails.
#[derive(Debug)]
pub struct Scratch {
    program: PathBuf,
    dir: PathBuf,
}

impl Scratch {
    /// A new directory below `tmp`, which is `env!("CARGO_TARGET_TMPDIR")`, for `program`, which is
    /// `env!("CARGO_BIN_EXE_...")`.
    pub fn new(tmp: &str, program: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(tmp).join(format!("run-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for the test");
        Scratch { program: PathBuf::from(program), dir }
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the program is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The program, to be run here with `args`, separated by spaces, and nothing on its standard input.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args.split_whitespace()).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs it, and gives what it says.
    pub fn run(&self, args: &str) -> Said {
        Said::from(self.command(args).output().expect("the program starts"))
    }

    /// Runs it, and expects this exit status.
    #[track_caller]
    pub fn expect(&self, status: i32, args: &str) -> Said {
        let said = self.run(args);
        assert_eq!(said.status, status, "{args}: {}{}", said.out, said.err);
        said
    }

    /// The same with this on its standard input.
    #[track_caller]
    pub fn expect_fed(&self, status: i32, args: &str, input: &str) -> Said {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe was asked for");
        let input = input.to_owned();
        // Fed from a thread of its own: the program may be waiting for somebody to read what it has said. It may also
        // have ended before it has read all.
        let feeder = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let said = Said::from(child.wait_with_output().expect("the program ends"));
        feeder.join().expect("the feeding thread does not panic");
        assert_eq!(said.status, status, "{args}: {}{}", said.out, said.err);
        said
    }
}

/// Makes a type `Scratch` of this crate's tests: a [`Scratch`](crate::Scratch) for the program of this name, to be given
/// more methods.
#[macro_export]
macro_rules! scratch_for {
    ($program:literal) => {
        /// A directory for one test, with the program to run in it.
        pub(crate) struct Scratch($crate::Scratch);

        impl std::ops::Deref for Scratch {
            type Target = $crate::Scratch;

            fn deref(&self) -> &$crate::Scratch {
                &self.0
            }
        }

        impl Scratch {
            pub(crate) fn new() -> Scratch {
                let program = env!(concat!("CARGO_BIN_EXE_", $program));
                Scratch($crate::Scratch::new(env!("CARGO_TARGET_TMPDIR"), program))
            }
        }
    };
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            status: output.status.code().expect("no signal ended it"),
            out: String::from_utf8(output.stdout).expect("text on standard output"),
            err: String::from_utf8(output.stderr).expect("text on standard error"),
        }
    }
}
