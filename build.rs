//! Tells the program when it was built, and has the linker lay out release binaries so that they take little memory.
//!
//! The time is one that has passed for sure, whatever a clock says. `SOURCE_DATE_EPOCH` sets it, for builds that must come
//! out the same every time.
//!
//! What a server runs to start, and to pass plain messages, comes first in the program's code, side by side: the functions
//! that `src/startup.order` lists. A kernel that maps one page of a file maps those around it, 64 KiB in all. With those
//! functions scattered over the file nearly all of it is resident once a server has started; together, a megabyte less.
//!
//! Static binaries are left without the tables that tell how to unwind a stack: a tenth of them. The release profile aborts
//! at a panic, and nothing here cancels a thread, so that nobody ever unwinds. A panic still prints its message, with its
//! place, and ends the process; `RUST_BACKTRACE=1` has no frames to show below it.
//!
//! Other binaries, on x86-64, have in them the few functions that find a backtrace. The library of theirs would take a tenth
//! of a megabyte, and would have to be there.
//!
//! The layout is a script that adds to the linker's own. GNU's linker and LLVM's take it; any other one, named in a flag
//! `-fuse-ld=`, is left alone.

use std::path::PathBuf;
use std::time::SystemTime;
use std::{env, fs, io};

/// Leaves tables out. The compiler's start and end files may lay a label into them: theirs stay.
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

/// The functions to lay first, a pattern for their names on each line. `benches/order.py` makes it.
const STARTUP: &str = include_str!("src/startup.order");

/// Object files that a start runs something of, and whose functions have no sections of their own: the entry, the hash of
/// the configuration, and the question what the processor can do.
const STARTUP_FILES: [&str; 4] = ["*crt1.o", "*crtbegin*.o", "*sha256-*", "*cpu_intel*"];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/startup.order");
    let given = env::var("SOURCE_DATE_EPOCH").ok();
    let given = given.and_then(|text| text.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = given.unwrap_or_else(|| now.map_or(0, |since| since.as_secs()));
    println!("cargo:rustc-env=MIDGE_BUILD_TIME={seconds}");
    if is_laid_out() {
        let mut script = startup_first();
        if has("CARGO_CFG_TARGET_FEATURE", "crt-static") {
            script.push_str(WITHOUT_UNWINDING);
            println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        } else if has("CARGO_CFG_TARGET_ARCH", "x86_64") {
            println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
        }
        let folder = env::var_os("OUT_DIR").map(PathBuf::from);
        let file = folder.unwrap_or_default().join("layout.ld");
        fs::write(&file, script)?;
        // Not behind "-Wl,": a folder may have a comma in its name.
        println!("cargo:rustc-link-arg-bins=-T{}", file.display());
    }
    Ok(())
}

/// A script that lays those files and functions before all other code, in the order of the list.
fn startup_first() -> String {
    let files = STARTUP_FILES.map(|file| format!("    {file}(.text .text.*)\n"));
    let functions = STARTUP.lines().map(|line| format!("    *(.text.{line})\n"));
    let sections: String = files.into_iter().chain(functions).collect();
    format!("SECTIONS\n{{\n  .text :\n  {{\n{sections}  }}\n}}\nINSERT AFTER .init;\n")
}

/// Whether this is for a Linux binary of the release profile, linked as usual: another linker that somebody has chosen may
/// take no scripts.
fn is_laid_out() -> bool {
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && !has("CARGO_ENCODED_RUSTFLAGS", "fuse-ld=")
}

fn has(name: &str, part: &str) -> bool {
    env::var(name).is_ok_and(|value| value.contains(part))
}
