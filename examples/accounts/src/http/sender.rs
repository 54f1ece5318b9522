//! Who sends a request, where a proxy stands between.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

/// What proxies name their client in.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a request is counted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sender(pub(super) IpAddr);

impl Sender {
    /// The peer itself, or whom it has last named if it is a proxy that is trusted: what stands before that in the header
    /// anybody could have written.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> Sender {
        let named = || address(headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?);
        let named = if is_trusted(peer, trusted) { named() } else { None };
        Sender(named.unwrap_or(peer))
    }
}

/// Whether this is one of the proxies.
pub(super) fn is_trusted(peer: IpAddr, trusted: &[IpAddr]) -> bool {
    trusted.iter().any(|proxy| proxy.to_canonical() == peer.to_canonical())
}

/// The last address of a list; some proxies add the port.
fn address(list: &str) -> Option<IpAddr> {
    let last = list.rsplit(',').next()?.trim();
    let with_port = || last.parse::<SocketAddr>().ok().map(|address| address.ip());
    last.trim_matches(['[', ']']).parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn sender(peer: &str, lines: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        Sender::of(ip(peer), &headers, &[ip("10.0.0.1"), ip("::1")]).0
    }

    #[test]
    fn a_trusted_proxy_names_its_client_last() {
        assert_eq!(sender("10.0.0.1", &["192.0.2.7"]), ip("192.0.2.7"));
        assert_eq!(sender("::ffff:10.0.0.1", &["192.0.2.7"]), ip("192.0.2.7"));
        assert_eq!(sender("::1", &["1.1.1.1", "2.2.2.2, 2001:db8::7"]), ip("2001:db8::7"));
        assert_eq!(sender("::1", &["192.0.2.7:4711"]), ip("192.0.2.7"));
        assert_eq!(sender("::1", &["[2001:db8::7]:4711"]), ip("2001:db8::7"));
        // What names nobody counts for the proxy.
        for lines in [&[][..], &["unknown"], &["192.0.2.7,"]] {
            assert_eq!(sender("10.0.0.1", lines), ip("10.0.0.1"), "{lines:?}");
        }
    }

    #[test]
    fn nobody_else_can_choose_an_address() {
        assert_eq!(sender("10.0.0.2", &["192.0.2.7"]), ip("10.0.0.2"));
        assert_eq!(Sender::of(ip("::1"), &HeaderMap::new(), &[]).0, ip("::1"));
    }
}
