//! Records as text, hexadecimal, JSON, or as they are.

use std::io::{self, Write};

use annals::LsnRange;
use annals::repair::Dumped;

use crate::report::words;
use crate::session::note;

/// How records are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// A line for each record, with the beginning of its bytes, of which nothing can command a terminal.
    Line,
    /// All bytes in hexadecimal, with addresses.
    Hex,
    /// A JSON object on a line, with all bytes in base64.
    Json,
    /// The bytes, and nothing else.
    Raw,
}

/// Bytes that [`Form::Line`] shows of a record that is text, and of one that is not.
const TEXT_SHOWN: usize = 64;
const BINARY_SHOWN: usize = 24;

impl Form {
    /// Writes what comes next.
    pub(crate) fn write(self, out: &mut dyn Write, next: &Dumped<'_>) -> io::Result<()> {
        match (self, next) {
            (Form::Raw, Dumped::Record { bytes, .. }) => out.write_all(bytes),
            (Form::Raw, Dumped::EpochStart { .. } | Dumped::Control { .. }) => Ok(()),
            (Form::Raw, Dumped::Gap { lsns, is_given_up }) => {
                note(&gap_text(*lsns, *is_given_up));
                Ok(())
            }
            (Form::Json, next) => write_json(out, next),
            (_, Dumped::Gap { lsns, is_given_up }) => writeln!(out, "# {}", gap_text(*lsns, *is_given_up)),
            (_, Dumped::EpochStart { lsn, epoch }) => writeln!(out, "# {lsn} begins epoch {epoch}"),
            (_, Dumped::Control { lsn, epoch, bytes }) => {
                let size = words::plural(bytes.len() as u64, "byte");
                writeln!(out, "# {lsn} is a record of the replication, epoch {epoch}, {size}")
            }
            (_, Dumped::Record { lsn, epoch, bytes }) => {
                let size = words::plural(bytes.len() as u64, "byte");
                write!(out, "{lsn}  epoch {epoch}, {size}")?;
                if self == Form::Hex {
                    write_hex(out, bytes)
                } else {
                    writeln!(out, "  {}", beginning(bytes))
                }
            }
        }
    }
}

fn gap_text(lsns: LsnRange, is_given_up: bool) -> String {
    let verb = if lsns.records() == 1 { "was" } else { "were" };
    match is_given_up {
        true => format!("{} {verb} given up by an earlier repair", words::records(lsns)),
        false => format!("{} cannot be read", words::records(lsns)),
    }
}

/// Text as it is where it is text, and everything else escaped.
fn beginning(bytes: &[u8]) -> String {
    let cut =
        |shown: usize| (&bytes[..bytes.len().min(shown)], if bytes.len() > shown { " ..." } else { "" });
    let (text, more) = cut(TEXT_SHOWN);
    let text = match str::from_utf8(text) {
        Ok(text) => text,
        // A character that the cut went through is left out.
        Err(error) if error.error_len().is_none() && !more.is_empty() => {
            str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => {
            let (binary, more) = cut(BINARY_SHOWN);
            return format!("\"{}\"{more}", binary.escape_ascii());
        }
    };
    format!("\"{}\"{more}", text.escape_debug())
}

fn write_hex(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    writeln!(out)?;
    for (line, number) in bytes.chunks(16).zip(0_u64..) {
        write!(out, "  {:08x} ", number * 16)?;
        for place in 0..16 {
            let gap = if place == 8 { " " } else { "" };
            match line.get(place) {
                Some(byte) => write!(out, "{gap} {byte:02x}")?,
                None => write!(out, "{gap}   ")?,
            }
        }
        let sign = |&byte: &u8| if (b' '..=b'~').contains(&byte) { byte as char } else { '.' };
        writeln!(out, "  |{}|", line.iter().map(sign).collect::<String>())?;
    }
    Ok(())
}

fn write_json(out: &mut dyn Write, next: &Dumped<'_>) -> io::Result<()> {
    match next {
        Dumped::Record { lsn, epoch, bytes } => {
            write!(out, "{{\"lsn\":{lsn},\"epoch\":{epoch},\"bytes\":{},\"base64\":\"", bytes.len())?;
            write_base64(out, bytes)?;
            out.write_all(b"\"}\n")
        }
        Dumped::EpochStart { lsn, epoch } => {
            writeln!(out, "{{\"lsn\":{lsn},\"epoch\":{epoch},\"epoch_start\":true}}")
        }
        Dumped::Control { lsn, epoch, bytes } => {
            write!(out, "{{\"lsn\":{lsn},\"epoch\":{epoch},\"control\":true,\"base64\":\"")?;
            write_base64(out, bytes)?;
            out.write_all(b"\"}\n")
        }
        Dumped::Gap { lsns: LsnRange { first, last }, is_given_up } => {
            writeln!(out, "{{\"gap\":{{\"first\":{first},\"last\":{last}}},\"given_up\":{is_given_up}}}")
        }
    }
}

/// RFC 4648, section 4.
fn write_base64(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    /// A multiple of three, so that nothing is padded before the end.
    const PIECE: usize = 3 * 1024;
    let mut text = Vec::with_capacity(PIECE / 3 * 4);
    for piece in bytes.chunks(PIECE) {
        text.clear();
        for three in piece.chunks(3) {
            let byte = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..4 {
                let sextet = (bits >> (18 - 6 * place) & 63) as usize;
                text.push(if place <= three.len() { ALPHABET[sextet] } else { b'=' });
            }
        }
        out.write_all(&text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use annals::{Epoch, Lsn};

    use super::*;

    fn written(form: Form, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        form.write(&mut out, &Dumped::Record { lsn: Lsn::new(7), epoch: Epoch::FIRST, bytes }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            write_base64(&mut out, plain.as_bytes()).unwrap();
            assert_eq!(out, coded.as_bytes());
        }
        let mut out = Vec::new();
        write_base64(&mut out, &[0xFF; 10_000]).unwrap();
        assert_eq!(out.len(), 13_336);
        assert!(out.ends_with(b"//w==") && out[..13_333].iter().all(|&sign| sign == b'/'));
    }

    #[test]
    fn a_line_holds_nothing_that_a_terminal_obeys() {
        assert_eq!(
            written(Form::Line, b"two \x1b[2Jlamps\n"),
            "7  epoch 1, 14 bytes  \"two \\u{1b}[2Jlamps\\n\"\n"
        );
        assert_eq!(written(Form::Line, b"\xff\x00a"), "7  epoch 1, 3 bytes  \"\\xff\\x00a\"\n");
        let long = "\u{e4}".repeat(100);
        let shown = written(Form::Line, long.as_bytes());
        assert!(shown.contains(&"\u{e4}".repeat(32)) && shown.ends_with("\" ...\n"), "{shown}");
    }

    #[test]
    fn hexadecimal_comes_with_addresses() {
        let expected = "7  epoch 1, 17 bytes\n  \
            00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n  \
            00000010  00                                                |.|\n";
        assert_eq!(written(Form::Hex, b"0123456789abcdef\0"), expected);
    }

    #[test]
    fn raw_is_the_bytes_and_nothing_else() {
        assert_eq!(written(Form::Raw, b"a\nb"), "a\nb");
    }

    #[test]
    fn gaps_and_epochs_are_lines_of_json_too() {
        let mut out = Vec::new();
        let lsns = LsnRange::new(Lsn::new(3), Lsn::new(9)).unwrap();
        Form::Json.write(&mut out, &Dumped::Gap { lsns, is_given_up: true }).unwrap();
        Form::Json.write(&mut out, &Dumped::EpochStart { lsn: Lsn::new(10), epoch: Epoch::new(2) }).unwrap();
        let control = Dumped::Control { lsn: Lsn::new(11), epoch: Epoch::new(2), bytes: b"abc" };
        Form::Json.write(&mut out, &control).unwrap();
        let lines: Vec<serde_json::Value> = out
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines[0], serde_json::json!({ "gap": { "first": 3, "last": 9 }, "given_up": true }));
        assert_eq!(lines[1], serde_json::json!({ "lsn": 10, "epoch": 2, "epoch_start": true }));
        let control = serde_json::json!({ "lsn": 11, "epoch": 2, "control": true, "base64": "YWJj" });
        assert_eq!(lines[2], control);
    }
}
