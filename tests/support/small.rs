//! A small log over the simulated disk: its segments are soon full, and so are its groups.

use annals::{LogOptions, ZeroFill};

pub(crate) fn options() -> LogOptions {
    LogOptions::new("simulated")
        .segment_bytes(64 << 10)
        .group_bytes(4 << 10)
        .in_flight_bytes_max(64 << 10)
        .depth(1)
        .zero_fill(ZeroFill::Never)
}
