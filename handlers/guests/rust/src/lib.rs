//! Guests of tests, each an example of this crate: components that Rust makes with its standard
//! library.
