//! Sizes, rates and times as people write and read them.

use std::time::Duration;

/// Reads a size: a number with an optional binary unit, as in `256`, `4k`, `64KiB`, `1.5g`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1_u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(format!("unknown unit {unit:?}; use k, m, g or t (powers of 1024)")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a size such as 256, 4k or 1m".to_string())?;
    let bytes = number * factor as f64;
    if bytes > (1_u64 << 60) as f64 {
        return Err("that is more than any disk holds".to_string());
    }
    Ok(bytes as u64)
}

/// Like [`parse_bytes`], and refuses 0.
pub(crate) fn parse_bytes_above_zero(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("must be more than 0".to_string()),
        bytes => Ok(bytes),
    }
}

/// Reads the size of a record: as large as a log can be told to take.
pub(crate) fn parse_record_bytes(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes if bytes <= 512 << 20 => Ok(bytes),
        _ => Err("a record has at most 512m".to_string()),
    }
}

/// Reads a number of seconds above 0, at most a day.
pub(crate) fn parse_secs(text: &str) -> Result<f64, String> {
    let secs: f64 = text.parse().map_err(|_| "expected seconds, such as 5 or 0.5".to_string())?;
    if secs > 0.0 && secs <= 86_400.0 {
        Ok(secs)
    } else {
        Err("must be more than 0 and at most 86400".to_string())
    }
}

/// Reads a rate above 0.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected records a second, such as 5000".to_string())?;
    if rate > 0.0 && rate.is_finite() { Ok(rate) } else { Err("must be more than 0".to_string()) }
}

/// Shows a size in binary units: `4 KiB`, `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut shown = bytes as f64;
    while shown >= 1024.0 && unit + 1 < UNITS.len() {
        shown /= 1024.0;
        unit += 1;
    }
    if shown.fract() < 0.05 || shown >= 100.0 {
        format!("{shown:.0} {}", UNITS[unit])
    } else {
        format!("{shown:.1} {}", UNITS[unit])
    }
}

/// Shows a count in three significant digits or so: `512`, `7.7 k`, `1.85 M`.
pub(crate) fn count(count: f64) -> String {
    match count {
        c if c >= 1e9 => format!("{:.2} G", c / 1e9),
        c if c >= 1e6 => format!("{:.2} M", c / 1e6),
        c if c >= 1e5 => format!("{:.0} k", c / 1e3),
        c if c >= 1e3 => format!("{:.1} k", c / 1e3),
        c if c >= 100.0 || c.fract() == 0.0 => format!("{c:.0}"),
        c => format!("{c:.1}"),
    }
}

/// Shows megabytes (10^6 bytes) a second.
pub(crate) fn mb_per_s(mb: f64) -> String {
    match mb {
        mb if mb >= 100.0 => format!("{mb:.0}"),
        mb if mb >= 10.0 => format!("{mb:.1}"),
        mb => format!("{mb:.2}"),
    }
}

/// Shows a time: `850 ns`, `132 us`, `4.2 ms`, `1.5 s`.
pub(crate) fn time_us(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e4 => format!("{:.1} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us if us >= 100.0 => format!("{us:.0} us"),
        us if us >= 1.0 => format!("{us:.1} us"),
        us => format!("{:.0} ns", us * 1e3),
    }
}

/// A duration in microseconds.
pub(crate) fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// `1 thread`, `2 threads`.
pub(crate) fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        assert_eq!(parse_bytes("256"), Ok(256));
        assert_eq!(parse_bytes("4k"), Ok(4096));
        assert_eq!(parse_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_bytes("1.5g"), Ok(3 << 29));
        assert!(parse_bytes("4q").is_err());
        assert!(parse_bytes("").is_err());
        assert!(parse_bytes_above_zero("0").is_err());
    }

    #[test]
    fn sizes_and_times_are_shown_short() {
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(count(7_712.0), "7.7 k");
        assert_eq!(count(182_000.0), "182 k");
        assert_eq!(time_us(132.4), "132 us");
        assert_eq!(time_us(0.5), "500 ns");
        assert_eq!(plural(1, "thread"), "1 thread");
    }

    #[test]
    fn seconds_have_a_floor_and_a_ceiling() {
        assert_eq!(parse_secs("0.5"), Ok(0.5));
        assert!(parse_secs("0").is_err());
        assert!(parse_secs("nan").is_err());
        assert!(parse_rate("inf").is_err());
    }
}
