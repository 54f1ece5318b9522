//! The promises of the simulated disk.
