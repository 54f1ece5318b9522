//! Small logs, damage, and what the program says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use annals::format::crc32;
use annals::{Log, LogOptions, WriteMethod};
use serde_json::Value;

/// Records in a small log: enough for three segments and a half.
pub(crate) const RECORDS: u64 = 200;

annals_scratch::scratch_for!("log-recover");

impl Scratch {
    /// With a log of [`RECORDS`] records in `log`, closed.
    pub(crate) fn with_log() -> Scratch {
        let scratch = Scratch::new();
        scratch.open("log").close().unwrap();
        scratch
    }

    /// A small log in `name`, open.
    pub(crate) fn open(&self, name: &str) -> Log {
        let options =
            LogOptions::new(self.path(name)).segment_bytes(64 << 10).write_method(WriteMethod::Buffered);
        let log = options.open().unwrap();
        for number in 1..=RECORDS {
            drop(log.append(record(number).as_bytes()).unwrap());
            // Groups of ten records, all durable.
            if number % 10 == 0 {
                log.sync().unwrap();
            }
        }
        log
    }

    /// Runs it with `--json`, expects this exit status, and gives the one object.
    #[track_caller]
    pub(crate) fn json(&self, status: i32, args: &str) -> Value {
        let said = self.expect(status, &format!("{args} --json"));
        let object: Value = serde_json::from_str(&said.out).expect("one object on standard output");
        assert!(object.is_object());
        assert_eq!(object["status"], status);
        assert_eq!(object["command"], args.split_whitespace().next().unwrap());
        object
    }

    /// The files of the log with their bytes, but for its lock.
    pub(crate) fn files(&self, name: &str) -> BTreeMap<String, Bytes> {
        let entries = fs::read_dir(self.path(name)).unwrap().map(|entry| entry.unwrap());
        let files = entries.map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, Bytes(fs::read(entry.path()).unwrap()))
        });
        files.filter(|(name, _)| name != "LOCK").collect()
    }

    /// The segments' names, rising.
    pub(crate) fn segments(&self, name: &str) -> Vec<String> {
        let is_segment = |name: &String| name.ends_with(".seg") && !name.starts_with("spare-");
        self.files(name).into_keys().filter(is_segment).collect()
    }

    /// Where the payload of record `number` lies: file and offset.
    pub(crate) fn place_of(&self, number: u64) -> (PathBuf, usize) {
        let wanted = record(number).into_bytes();
        for (name, bytes) in self.files("log") {
            let found = bytes.0.windows(wanted.len()).position(|window| window == wanted);
            if let Some(offset) = found {
                return (self.path("log").join(name), offset);
            }
        }
        panic!("record {number} is in no file");
    }

    /// Flips one bit in the payload of record `number`.
    pub(crate) fn flip(&self, number: u64) {
        let (path, offset) = self.place_of(number);
        edit(&path, |bytes| bytes[offset + 20] ^= 4);
    }

    /// Spoils the payload of record `number` for good.
    pub(crate) fn spoil(&self, number: u64) {
        let (path, offset) = self.place_of(number);
        edit(&path, |bytes| bytes[offset + 20..offset + 60].fill(0xAA));
    }

    /// A copy of the log as it is now, as a crash may leave it.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        fs::create_dir(self.path(to)).unwrap();
        for (name, bytes) in self.files(from) {
            fs::write(self.path(to).join(name), bytes.0).unwrap();
        }
    }
}

/// Bytes of a file, told by their sum where a test fails.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with sum {:08x}", self.0.len(), crc32(&self.0))
    }
}

/// The bytes of record `number`.
pub(crate) fn record(number: u64) -> String {
    format!("record {number:06} {}", "lamp ".repeat(200))
}

pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}
