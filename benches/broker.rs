//! CPU time per message, side by side with the reference server.

fn main() {}
