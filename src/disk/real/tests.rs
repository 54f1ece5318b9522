//! The promises of real files, on the disk of the temporary directory and in memory.
