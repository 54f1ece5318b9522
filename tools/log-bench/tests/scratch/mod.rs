//! A directory of its own for a test, and the program run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A directory for one test, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs log-bench here with `args`, separated by spaces.
    pub(crate) fn run(&self, args: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_log-bench"))
            .args(args.split_whitespace())
            .current_dir(&self.0)
            .output()
            .unwrap()
    }

    /// Runs log-bench here, and gives the one object that it prints.
    pub(crate) fn json(&self, args: &str) -> Value {
        let output = self.run(&format!("{args} --json"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let object: Value = serde_json::from_slice(&output.stdout).expect("one object on standard output");
        assert!(object.is_object());
        object
    }

    /// Runs log-bench here, expects it to fail, and gives what it says.
    pub(crate) fn refusal(&self, args: &str) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args} went well");
        assert!(output.stdout.is_empty(), "an error belongs on standard error");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
