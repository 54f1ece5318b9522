//! Packets of a connection that come from another address than it was made from.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use annals::protocol::request::ClientRole;

use crate::place::{CLUSTER, Caller, Papers, Told};
use crate::relay::Relay;

/// Otherwise whoever can listen, and is quicker, would take the connection to where he likes.
#[test]
fn a_connection_stays_where_it_was_made_from() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let relay = Relay::to(&place);
    let caller = Caller::open(&papers.client(ClientRole::Read), &relay.address());
    assert!(matches!(caller.told(), Told::Opened(..)));
    relay.is_copied.store(true, Ordering::Relaxed);
    for number in 1..=20 {
        caller.ask(number, &[]);
        assert_eq!(caller.reply().0, number);
    }
    relay.elsewhere.set_nonblocking(true).unwrap();
    let answered = relay.elsewhere.recv(&mut [0; 2048]);
    assert_eq!(answered.unwrap_err().kind(), ErrorKind::WouldBlock, "answered elsewhere");
}
