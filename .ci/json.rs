//! Reads standard input and succeeds if it is exactly one JSON object that has the keys named as arguments.
//!
//! Compiled by `.ci/run` with plain `rustc`, so that the checks need nothing but a Rust toolchain.

use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut text = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut text) {
        eprintln!("json: {error}");
        return ExitCode::FAILURE;
    }
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match keys_of_one_object(&text) {
        Ok(keys) => match wanted.iter().find(|key| !keys.contains(key)) {
            None => ExitCode::SUCCESS,
            Some(missing) => {
                eprintln!("json: no key {missing} among {keys:?}");
                ExitCode::FAILURE
            }
        },
        Err(at) => {
            eprintln!("json: not exactly one object, see byte {at} of:\n{text}");
            ExitCode::FAILURE
        }
    }
}

/// The keys of the one object that `text` holds, or the place where it turns out to hold something else.
fn keys_of_one_object(text: &str) -> Result<Vec<String>, usize> {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0, keys: vec![] };
    reader.space();
    if reader.peek() != b'{' {
        return Err(reader.at);
    }
    reader.value(0)?;
    reader.space();
    if reader.at == reader.bytes.len() { Ok(reader.keys) } else { Err(reader.at) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The keys of the outermost object.
    keys: Vec<String>,
}

impl Reader<'_> {
    /// The byte ahead; 0, which JSON never has, at the end.
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn take(&mut self, text: &[u8]) -> Result<(), usize> {
        if !self.bytes[self.at..].starts_with(text) {
            return Err(self.at);
        }
        self.at += text.len();
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), usize> {
        self.space();
        match self.peek() {
            b'{' => self.list(b'}', depth, true),
            b'[' => self.list(b']', depth, false),
            b'"' => self.string().map(drop),
            b't' => self.take(b"true"),
            b'f' => self.take(b"false"),
            b'n' => self.take(b"null"),
            _ => self.number(),
        }
    }

    fn list(&mut self, close: u8, depth: usize, keyed: bool) -> Result<(), usize> {
        self.at += 1;
        self.space();
        if self.peek() == close {
            return self.take(&[close]);
        }
        loop {
            self.space();
            if keyed {
                let key = self.string()?;
                if depth == 0 {
                    self.keys.push(key);
                }
                self.space();
                self.take(b":")?;
            }
            self.value(depth + 1)?;
            self.space();
            if self.peek() == close {
                return self.take(&[close]);
            }
            self.take(b",")?;
        }
    }

    fn string(&mut self) -> Result<String, usize> {
        self.take(b"\"")?;
        let start = self.at;
        while self.peek() != b'"' {
            if self.peek() < b' ' {
                return Err(self.at);
            }
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        Ok(String::from_utf8_lossy(&self.bytes[start..self.at - 1]).into_owned())
    }

    fn number(&mut self) -> Result<(), usize> {
        let start = self.at;
        while matches!(self.peek(), b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| start)?;
        // Rust takes `+1` and `.5` too; a benchmark's output does not try such tricks.
        text.parse::<f64>().map(drop).map_err(|_| start)
    }
}
