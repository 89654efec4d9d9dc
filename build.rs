//! Tells the program when it was built, and leaves tables that nothing can use out of static binaries.
//!
//! The time is one that has passed for sure, whatever a clock says. `SOURCE_DATE_EPOCH` sets it, for builds that must come
//! out the same every time.
//!
//! The tables tell how to unwind a stack: a tenth of a static binary. The release profile aborts at a panic, and nothing
//! here cancels a thread, so that nobody ever unwinds. A panic still prints its message, with its place, and ends the
//! process; `RUST_BACKTRACE=1` has no frames to show below it.

use std::path::PathBuf;
use std::time::SystemTime;
use std::{env, fs, io};

/// Adds to the linker's own script. The compiler's start and end files may lay a label into the tables: theirs stay.
const WITHOUT_UNWINDING: &str = "SECTIONS
{
  /DISCARD/ :
  {
    *(EXCLUDE_FILE(*crt*.o) .eh_frame)
    *(.gcc_except_table .gcc_except_table.*)
    *(.ARM.exidx .ARM.exidx.* .ARM.extab .ARM.extab.*)
  }
}
INSERT AFTER .rodata;
";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=build.rs");
    let given = env::var("SOURCE_DATE_EPOCH").ok();
    let given = given.and_then(|text| text.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = given.unwrap_or_else(|| now.map_or(0, |since| since.as_secs()));
    println!("cargo:rustc-env=MIDGE_BUILD_TIME={seconds}");
    if is_static_release() {
        let folder = env::var_os("OUT_DIR").map(PathBuf::from);
        let script = folder.unwrap_or_default().join("without-unwinding.ld");
        fs::write(&script, WITHOUT_UNWINDING)?;
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
        println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
    Ok(())
}

/// Whether this is for a static binary of the release profile, linked as usual: another linker that somebody has chosen
/// may take no scripts.
fn is_static_release() -> bool {
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    let has = |name: &str, part: &str| env::var(name).is_ok_and(|value| value.contains(part));
    is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && has("CARGO_CFG_TARGET_FEATURE", "crt-static")
        && !has("CARGO_ENCODED_RUSTFLAGS", "fuse-ld=")
}
