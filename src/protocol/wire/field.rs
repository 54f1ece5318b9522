//! How one value is put and taken, and what bounds it.

use std::sync::Arc;

use super::{BadMessage, REIGN_MAX};
use crate::protocol::health::LOST_BASE;
use crate::types::{ClusterId, DiskId, Epoch, LogIncarnation, Lsn, LsnRange, ProducerId, ReplicaId};

/// A value with one sequence of bytes.
pub(in crate::protocol) trait Field: Sized {
    /// Appends its bytes.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes it from the front of what is left.
    fn take(reader: &mut Reader<'_>) -> Result<Self, BadMessage>;
}

/// Bytes of which the front has been taken.
pub(in crate::protocol) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(in crate::protocol) const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(in crate::protocol) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadMessage> {
        let (front, rest) = self.rest.split_first_chunk().ok_or(BadMessage::Cut)?;
        self.rest = rest;
        Ok(*front)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], BadMessage> {
        let (front, rest) = self.rest.split_at_checked(count).ok_or(BadMessage::Cut)?;
        self.rest = rest;
        Ok(front)
    }

    /// A list's count, for which there are as many bytes as its items take at least.
    pub(in crate::protocol) fn count(
        &mut self,
        max: usize,
        item_bytes_min: usize,
    ) -> Result<usize, BadMessage> {
        let count = usize::try_from(u32::take(self)?).map_err(|_| BadMessage::TooLarge)?;
        if count > max {
            return Err(BadMessage::TooLarge);
        }
        // No overflow: the bound has been checked, and all bounds and sizes of items are small.
        if count * item_bytes_min > self.rest.len() { Err(BadMessage::Cut) } else { Ok(count) }
    }

    pub(in crate::protocol) fn list<T: Field>(
        &mut self,
        max: usize,
        item_bytes_min: usize,
    ) -> Result<Vec<T>, BadMessage> {
        let count = self.count(max, item_bytes_min)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::take(self)?);
        }
        Ok(items)
    }

    /// The value, if nothing is left.
    pub(in crate::protocol) fn end<T>(&self, value: T) -> Result<T, BadMessage> {
        if self.rest.is_empty() { Ok(value) } else { Err(BadMessage::Surplus) }
    }
}

/// The value, if it can be.
pub(in crate::protocol) fn sound<T>(value: T, is_sound: bool) -> Result<T, BadMessage> {
    if is_sound { Ok(value) } else { Err(BadMessage::Malformed) }
}

pub(in crate::protocol) fn put_count(count: usize, max: usize, out: &mut Vec<u8>) {
    assert!(count <= max, "a list stays within its bound: a peer would refuse it");
    u32::try_from(count).expect("all bounds are below 2^32").put(out);
}

pub(in crate::protocol) fn put_list<T: Field>(items: &[T], max: usize, out: &mut Vec<u8>) {
    put_count(items.len(), max, out);
    items.iter().for_each(|item| item.put(out));
}

/// An LSN that a record has.
pub(in crate::protocol) fn take_record(reader: &mut Reader<'_>) -> Result<Lsn, BadMessage> {
    let lsn = Lsn::take(reader)?;
    sound(lsn, lsn >= Lsn::FIRST)
}

/// A number that grows with each reign or change.
pub(in crate::protocol) fn take_reign(reader: &mut Reader<'_>) -> Result<u64, BadMessage> {
    let number = u64::take(reader)?;
    sound(number, number <= REIGN_MAX)
}

/// Text of at most so many bytes: what is longer is cut, between two characters.
pub(in crate::protocol) fn put_text(text: &str, bytes_max: usize, out: &mut Vec<u8>) {
    let text = &text[..text.floor_char_boundary(bytes_max)];
    put_count(text.len(), bytes_max, out);
    out.extend_from_slice(text.as_bytes());
}

pub(in crate::protocol) fn take_text(
    reader: &mut Reader<'_>,
    bytes_max: usize,
) -> Result<String, BadMessage> {
    let count = reader.count(bytes_max, 1)?;
    let text = std::str::from_utf8(reader.bytes(count)?).map_err(|_| BadMessage::Malformed)?;
    Ok(text.to_owned())
}

/// The last of `count` numbers from `first` on, if there is any and it is a number.
pub(in crate::protocol) fn last_of(first: u64, count: u32) -> Option<u64> {
    first.checked_add(u64::from(count).checked_sub(1)?)
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(reader: &mut Reader<'_>) -> Result<$number, BadMessage> {
                Ok(<$number>::from_le_bytes(reader.array()?))
            }
        }
    )*};
}
numbers!(u8, u32, u64, u128);

macro_rules! any_number {
    ($($name:ident),*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.get().put(out);
            }

            fn take(reader: &mut Reader<'_>) -> Result<$name, BadMessage> {
                Field::take(reader).map($name::new)
            }
        }
    )*};
}
any_number!(ReplicaId, ClusterId, DiskId, LogIncarnation, ProducerId);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<bool, BadMessage> {
        match reader.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(BadMessage::Malformed),
        }
    }
}

/// A watermark: zero before the first record.
impl Field for Lsn {
    fn put(&self, out: &mut Vec<u8>) {
        self.get().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Lsn, BadMessage> {
        let lsn = Lsn::new(u64::take(reader)?);
        sound(lsn, lsn <= Lsn::LAST)
    }
}

impl Field for LsnRange {
    fn put(&self, out: &mut Vec<u8>) {
        self.first.put(out);
        self.last.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<LsnRange, BadMessage> {
        let range = take_lost(reader)?;
        sound(range, range != LOST_BASE)
    }
}

/// Records, or the base.
pub(super) fn take_lost(reader: &mut Reader<'_>) -> Result<LsnRange, BadMessage> {
    let (first, last) = (Lsn::take(reader)?, Lsn::take(reader)?);
    let range = LsnRange::new(first, last).ok_or(BadMessage::Malformed)?;
    sound(range, first >= Lsn::FIRST || range == LOST_BASE)
}

impl Field for Epoch {
    fn put(&self, out: &mut Vec<u8>) {
        self.get().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Epoch, BadMessage> {
        take_reign(reader).map(Epoch::new)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Option<T>, BadMessage> {
        if bool::take(reader)? { T::take(reader).map(Some) } else { Ok(None) }
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<(A, B), BadMessage> {
        Ok((A::take(reader)?, B::take(reader)?))
    }
}

impl<T: Field> Field for Arc<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Arc<T>, BadMessage> {
        T::take(reader).map(Arc::new)
    }
}

impl<T: Field> Field for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Box<T>, BadMessage> {
        T::take(reader).map(Box::new)
    }
}

/// A type whose fields bound themselves.
macro_rules! fields {
    ($($name:ident { $($field:tt),* })*) => {$(
        impl $crate::protocol::wire::field::Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::protocol::wire::field::Field::put(&self.$field, out);)*
            }

            fn take(
                reader: &mut $crate::protocol::wire::field::Reader<'_>,
            ) -> Result<$name, $crate::protocol::wire::BadMessage> {
                Ok($name { $($field: $crate::protocol::wire::field::Field::take(reader)?),* })
            }
        }
    )*};
}
pub(in crate::protocol) use fields;

/// A type that is one of several: which one is told apart from its fields, so that either can stand in a preamble.
pub(in crate::protocol) trait Coded: Sized {
    /// Which of them it is.
    fn code(&self) -> u8;

    /// Appends its fields.
    fn put_fields(&self, out: &mut Vec<u8>);

    /// Takes the fields of the one with this code.
    fn take_fields(code: u8, reader: &mut Reader<'_>) -> Result<Self, BadMessage>;
}

/// One table for both ways: each variant's code, and its fields in the order in which they go.
macro_rules! coded {
    ($type:ident {
        holding { $($held_code:literal $held:ident)* }
        plain { $($code:literal $name:ident { $($field:ident),* })* }
    }) => {
        impl $crate::protocol::wire::field::Coded for $type {
            fn code(&self) -> u8 {
                match self {
                    $($type::$held(_) => $held_code,)*
                    $($type::$name { .. } => $code,)*
                }
            }

            fn put_fields(&self, out: &mut Vec<u8>) {
                match self {
                    $($type::$held(held) => $crate::protocol::wire::field::Field::put(held, out),)*
                    $($type::$name { $($field),* } => {
                        $($crate::protocol::wire::field::Field::put($field, out);)*
                    })*
                }
            }

            fn take_fields(
                code: u8,
                reader: &mut $crate::protocol::wire::field::Reader<'_>,
            ) -> Result<$type, $crate::protocol::wire::BadMessage> {
                Ok(match code {
                    $($held_code => $type::$held($crate::protocol::wire::field::Field::take(reader)?),)*
                    $($code => $type::$name {
                        $($field: $crate::protocol::wire::field::Field::take(reader)?),*
                    },)*
                    _ => return Err($crate::protocol::wire::BadMessage::Malformed),
                })
            }
        }
    };
}
pub(in crate::protocol) use coded;

/// The code in a byte, then the fields: for one that is itself a field.
macro_rules! coded_fields {
    ($($type:ident),*) => {$(
        impl $crate::protocol::wire::field::Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.push($crate::protocol::wire::field::Coded::code(self));
                $crate::protocol::wire::field::Coded::put_fields(self, out);
            }

            fn take(
                reader: &mut $crate::protocol::wire::field::Reader<'_>,
            ) -> Result<$type, $crate::protocol::wire::BadMessage> {
                let code = $crate::protocol::wire::field::Field::take(reader)?;
                $crate::protocol::wire::field::Coded::take_fields(code, reader)
            }
        }
    )*};
}
pub(in crate::protocol) use coded_fields;

/// One of several that have no fields, as a byte.
macro_rules! words {
    ($($type:ident { $($code:literal $name:ident),* })*) => {$(
        impl $crate::protocol::wire::field::Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self {
                    $($type::$name => $code,)*
                });
            }

            fn take(
                reader: &mut $crate::protocol::wire::field::Reader<'_>,
            ) -> Result<$type, $crate::protocol::wire::BadMessage> {
                match <u8 as $crate::protocol::wire::field::Field>::take(reader)? {
                    $($code => Ok($type::$name),)*
                    _ => Err($crate::protocol::wire::BadMessage::Malformed),
                }
            }
        }
    )*};
}
pub(in crate::protocol) use words;
