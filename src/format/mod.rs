//! Bytes to values and back: the only room where an offset is written.
