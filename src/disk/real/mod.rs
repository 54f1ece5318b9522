//! Real files, by way of the operating system's own calls.

mod descriptors;
mod dir;
mod file;
mod lock;
mod writers;

pub use dir::RealDisk;

#[cfg(test)]
mod tests;
