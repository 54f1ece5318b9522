//! When a replica's certificate ends, and when somebody is to be told.

use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::{CertificateDer, UnixTime};

const DAY: Duration = Duration::from_secs(86_400);
/// People are warned from so long before the end.
const WARNED_BEFORE: Duration = Duration::from_secs(14 * 86_400);

/// When the first certificate of a chain ends: after that no connection is made with it. `None` if that cannot be read.
pub(crate) fn end_of(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    chain.iter().filter_map(end_of_one).min()
}

/// What is in the tree reads a certificate's times only to judge them, and does that before anything else: at the end of
/// all time each certificate is over, and the verdict says since when.
fn end_of_one(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let late = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let usage = webpki::KeyUsage::client_auth();
    match parsed.verify_for_usage(&[], &[], &[], late, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

/// What is to be said of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Nothing yet.
    Good,
    /// It ends soon.
    Ending { days_left: u64 },
    /// It has ended.
    Over,
}

impl Standing {
    pub(crate) fn at(now: SystemTime, end: SystemTime) -> Standing {
        match end.duration_since(now) {
            Ok(left) if left >= WARNED_BEFORE => Standing::Good,
            Ok(left) => Standing::Ending { days_left: left.as_secs() / DAY.as_secs() },
            Err(_) => Standing::Over,
        }
    }
}

/// At the beginning, and from then on once a day.
pub(crate) struct Daily {
    next: Instant,
}

impl Daily {
    pub(crate) fn new(now: Instant) -> Daily {
        Daily { next: now }
    }

    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + DAY;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::super::certs::{Authority, Validity};
    use super::*;
    use crate::types::{ClusterId, ReplicaId};

    #[test]
    fn the_end_of_a_chain_is_that_of_its_first_certificate_to_end_long_over_or_far_away() {
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(ClusterId::new(1), Validity::days(1)).unwrap();
        let certificate = |until| {
            let valid = Validity { from: at(1_000_000), until };
            let files = authority.replica(ReplicaId::new(1), valid).unwrap().write(dir.path(), "a").unwrap();
            CertificateDer::from_pem_file(files.cert).unwrap()
        };
        // In 2001, in 2033, and from 2050 on they are written otherwise (RFC 5280, section 4.1.2.5).
        let ends = [1_000_000_000, 2_000_000_000, 4_000_000_000].map(at);
        let chain = ends.map(certificate);
        for (end, one) in ends.iter().zip(&chain) {
            assert_eq!(end_of(std::slice::from_ref(one)), Some(*end));
        }
        assert_eq!(end_of(&chain[1..]), Some(ends[1]));
        assert_eq!(end_of(&[chain[2].clone(), chain[1].clone()]), Some(ends[1]));
        assert_eq!(end_of(&[CertificateDer::from(vec![7; 9])]), None);
    }

    #[test]
    fn people_are_warned_from_two_weeks_before_the_end() {
        let end = SystemTime::UNIX_EPOCH + 100 * DAY;
        let second = Duration::from_secs(1);
        for (now, standing) in [
            (end - 15 * DAY, Standing::Good),
            (end - 14 * DAY, Standing::Good),
            (end - 14 * DAY + second, Standing::Ending { days_left: 13 }),
            (end - second, Standing::Ending { days_left: 0 }),
            (end + second, Standing::Over),
        ] {
            assert_eq!(Standing::at(now, end), standing);
        }
    }

    #[test]
    fn it_is_said_at_the_beginning_and_then_once_a_day() {
        let begin = Instant::now();
        let mut daily = Daily::new(begin);
        let hours = |hours: u32| begin + hours * DAY / 24;
        let due: Vec<u32> = (0..=72).filter(|hour| daily.is_due(hours(*hour))).collect();
        assert_eq!(due, [0, 24, 48, 72]);
    }
}
