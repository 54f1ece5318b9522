//! Watermarks, wait words, and the shim that lets loom stand in for the standard library.
