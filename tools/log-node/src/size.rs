//! Sizes in bytes and times, as people write them: `64m`, `150ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many bytes: `512`, `64k`, `64m`, `2g`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Size(pub(crate) u64);

/// A time: `30ms`, `2s`, `5m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Span(pub(crate) Duration);

const SIZES: [(&str, u64); 4] = [("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10), ("", 1)];
const SPANS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let lower = text.trim().to_ascii_lowercase();
        let lower = lower.trim_end_matches("ib").trim_end_matches('b');
        split(lower, &SIZES).map(Size).ok_or_else(|| "expected a size, such as 512k, 64m or 2g".to_owned())
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let millis = split(text.trim(), &SPANS);
        let advice = || "expected a time with its unit, such as 150ms, 2s or 5m".to_owned();
        millis.map(|millis| Span(Duration::from_millis(millis))).ok_or_else(advice)
    }
}

/// The number before the first of the units that fits, times what the unit stands for.
fn split(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let at = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The number with the largest of the units that leaves no rest; nothing is nothing of the smallest.
fn join(number: u64, units: &[(&'static str, u64)]) -> String {
    let fits = |factor: u64| factor == 1 || (number != 0 && number.is_multiple_of(factor));
    let whole = units.iter().filter(|(_, factor)| fits(*factor)).max_by_key(|unit| unit.1);
    let (name, factor) = whole.unwrap_or(&units[0]);
    format!("{}{name}", number / factor)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(self.0, &SIZES))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &SPANS))
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_text;

as_text!(Size);
as_text!(Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("512", 512), ("64k", 65536), ("2G", 2 << 30), ("4MiB", 4 << 20)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for (text, millis) in [("150ms", 150), ("2s", 2000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "m", "-1", "1.5g", "64x", "99999999999g"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["", "5", "s", "2 s", "2d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for bytes in [0, 1, 1000, 1024, 64 << 20, (1 << 30) + 1] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        for millis in [0, 1, 30, 1000, 61_000, 120_000] {
            let span = Span(Duration::from_millis(millis));
            assert_eq!(span.to_string().parse(), Ok(span), "{span}");
        }
        assert_eq!(Size(64 << 20).to_string(), "64m");
        assert_eq!(Size(0).to_string(), "0");
        assert_eq!(Span(Duration::from_secs(120)).to_string(), "2m");
        assert_eq!(Span(Duration::ZERO).to_string(), "0ms");
    }
}
