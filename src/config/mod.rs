//! Configuration: what can be set, and how it is read.

pub mod options;
