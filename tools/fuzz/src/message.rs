//! Messages, control records, bases, offers and metas.

use annals::protocol::wire::{self, BadMessage};
use std::fmt::Debug;

/// The golden file: a name and the bytes in hex on each line.
const GOLDEN: &str = include_str!("../../../tests/data/wire-v1.txt");

/// What is taken, in whichever form, gives the same bytes again, and its parts are sound.
pub fn fuzz_message(bytes: &[u8]) {
    again(bytes, wire::encode, wire::decode);
    again(bytes, wire::encode_control, wire::decode_control);
    again(bytes, wire::encode_base, wire::decode_base);
    again(bytes, wire::encode_offer, wire::decode_offer);
    again(bytes, wire::encode_meta, wire::decode_meta);
}

pub(crate) fn again<T: Debug>(
    bytes: &[u8],
    encode: fn(&T, &mut Vec<u8>),
    decode: fn(&[u8]) -> Result<T, BadMessage>,
) {
    let Ok(value) = decode(bytes) else { return };
    let mut again = Vec::new();
    encode(&value, &mut again);
    assert!(again == bytes, "{value:?} has two forms");
}

/// One of each message.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    of_golden(GOLDEN)
}

/// The bytes on each line of a golden file.
pub(crate) fn of_golden(text: &str) -> Vec<Vec<u8>> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(_, hex)| bytes_of(hex)).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).expect("a golden file").try_into().expect("a digit"))
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
