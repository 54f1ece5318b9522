//! Requests of clients, and replies.

use annals::protocol::request::{decode_reply, decode_request, encode_reply, encode_request};

use crate::message::{again, of_golden};

/// The golden file: a name and the bytes in hex on each line.
const GOLDEN: &str = include_str!("../../../tests/data/request-v1.txt");

/// What is taken, as a request or as a reply, gives the same bytes again.
pub fn fuzz_request(bytes: &[u8]) {
    again(bytes, encode_request, decode_request);
    again(bytes, encode_reply, decode_reply);
}

/// One of each request and reply.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    of_golden(GOLDEN)
}
