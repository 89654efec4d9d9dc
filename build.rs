//! Tells the program when it was built: a time that has passed for sure, whatever a clock says.
//!
//! `SOURCE_DATE_EPOCH` sets it, for builds that must come out the same every time.

use std::time::SystemTime;

fn main() {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=build.rs");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let given = given.and_then(|text| text.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = given.unwrap_or_else(|| now.map_or(0, |since| since.as_secs()));
    println!("cargo:rustc-env=MIDGE_BUILD_TIME={seconds}");
}
