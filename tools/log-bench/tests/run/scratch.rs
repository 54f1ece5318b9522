//! A directory of its own for a test, and the program run in it.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

annals_scratch::scratch_for!("log-bench");

impl Scratch {
    /// Runs log-bench here with `args`, separated by spaces.
    pub(crate) fn run(&self, args: &str) -> Output {
        self.command(args).output().unwrap()
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
        names(&self.path(""))
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
