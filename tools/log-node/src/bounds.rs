//! Settings that no replica can work with: refused before anything is made, with what to give instead.

use std::fmt::Display;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::settings::ReplicaSettings;
use crate::size::{Size, Span};

/// What times and sizes may be at most: more is a mistake in the unit.
const LONG: Span = Span(Duration::from_secs(24 * 3600));
const LARGE: Size = Size(1 << 40);

/// Whether all of them are within their bounds.
pub(crate) fn check(settings: &ReplicaSettings) -> Result<()> {
    let Size(scrub_rate) = settings.scrub_rate.unwrap_or(Size(0));
    let scrub_rate = Some(Size(scrub_rate)).filter(|_| scrub_rate > 0);
    let second = Span(Duration::from_secs(1));
    within("absence_max", settings.absence_max, (second, LONG), "")?;
    within("close_max", settings.close_max, (Span(Duration::from_millis(1)), LONG), "")?;
    let advice = ", or leave it out: then each linearizable read asks the others";
    within("lease_drift_ppm", settings.lease_drift_ppm, (0, 499_999), advice)?;
    within("waiting_max", settings.waiting_max, (1, 1 << 24), "")?;
    within("producers_max", settings.producers_max, (2, 524_288), "")?;
    within("depth", settings.depth, (1, 1000), "")?;
    within("sessions_max", settings.sessions_max, (1, 1_000_000), "")?;
    // The other replicas may all come at once, with two connections each.
    within("handshakes_max", settings.handshakes_max, (32, 1_000_000), "")?;
    // Several answers of the usual size wait while a client keeps up.
    within("session_backlog_max", settings.session_backlog_max, (Size(8 << 20), LARGE), "")?;
    let advice = ", or leave it out: then no snapshot is taken by itself because of bytes";
    within("snapshot_every_bytes", settings.snapshot_every_bytes, (Size(1 << 20), LARGE), advice)?;
    within("scrub_rate", scrub_rate, (Size(64 << 10), LARGE), ", or 0 to look for damage not at all")
}

fn within<T: PartialOrd + Display>(
    name: &str,
    given: Option<T>,
    (least, most): (T, T),
    advice: &str,
) -> Result<()> {
    match given {
        Some(given) if given < least || given > most => {
            Err(Error::BadSetting { reason: format!("`{name}` is {given}: give {least} to {most}{advice}") })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(line: &str) -> Result<()> {
        check(&toml::from_str(line).unwrap())
    }

    #[test]
    fn what_no_replica_can_work_with_is_refused_with_what_to_give_instead() {
        for (line, told) in [
            ("absence_max = '999ms'", "`absence_max` is 999ms: give 1s to 24h"),
            ("absence_max = '25h'", "`absence_max` is 25h: give 1s to 24h"),
            ("close_max = '0s'", "`close_max` is 0ms: give 1ms to 24h"),
            ("close_max = '25h'", "`close_max` is 25h: give 1ms to 24h"),
            ("lease_drift_ppm = 500000", "`lease_drift_ppm` is 500000: give 0 to 499999, or leave it out"),
            ("waiting_max = 0", "`waiting_max` is 0: give 1 to 16777216"),
            ("waiting_max = 16777217", "`waiting_max` is 16777217: give 1 to 16777216"),
            ("producers_max = 1", "`producers_max` is 1: give 2 to 524288"),
            ("producers_max = 524289", "`producers_max` is 524289: give 2 to 524288"),
            ("depth = 0", "`depth` is 0: give 1 to 1000"),
            ("depth = 1001", "`depth` is 1001: give 1 to 1000"),
            ("sessions_max = 0", "`sessions_max` is 0: give 1 to 1000000"),
            ("sessions_max = 1000001", "`sessions_max` is 1000001: give 1 to 1000000"),
            ("handshakes_max = 31", "`handshakes_max` is 31: give 32 to 1000000"),
            ("handshakes_max = 1000001", "`handshakes_max` is 1000001: give 32 to 1000000"),
            ("session_backlog_max = '7m'", "`session_backlog_max` is 7m: give 8m to 1024g"),
            ("session_backlog_max = '1025g'", "`session_backlog_max` is 1025g: give 8m to 1024g"),
            ("snapshot_every_bytes = '0'", "`snapshot_every_bytes` is 0: give 1m to 1024g, or leave it out"),
            ("snapshot_every_bytes = '1025g'", "`snapshot_every_bytes` is 1025g: give 1m to 1024g"),
            ("scrub_rate = '1k'", "`scrub_rate` is 1k: give 64k to 1024g, or 0"),
            ("scrub_rate = '1025g'", "`scrub_rate` is 1025g: give 64k to 1024g, or 0"),
        ] {
            let error = checked(line).unwrap_err();
            assert!(error.to_string().starts_with(told), "{line}: {error}");
            assert_eq!(error.status(), crate::status::Status::Usage);
        }
    }

    #[test]
    fn the_bounds_themselves_are_within_them() {
        for line in [
            "absence_max = '1s'\nclose_max = '1ms'\nlease_drift_ppm = 0\nwaiting_max = 1\nproducers_max = 2\ndepth = 1",
            "sessions_max = 1\nhandshakes_max = 32\nsession_backlog_max = '8m'\nsnapshot_every_bytes = '1m'",
            "absence_max = '24h'\nclose_max = '24h'\nlease_drift_ppm = 499999\nwaiting_max = 16777216\ndepth = 1000",
            "producers_max = 524288\nsessions_max = 1000000\nhandshakes_max = 1000000",
            "session_backlog_max = '1024g'\nsnapshot_every_bytes = '1024g'\nscrub_rate = '1024g'",
            "scrub_rate = '0'",
            "scrub_rate = '64k'",
        ] {
            checked(line).unwrap();
        }
    }
}
