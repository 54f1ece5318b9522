//! Measures a disk, and an annals log on it.
fn main() {}
