//! stub
/// id
#[must_use]
pub fn server_id() -> String {
    "N".repeat(56)
}
/// seed
#[must_use]
pub fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
