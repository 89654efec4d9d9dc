//! The heap of the program: what a crowd of clients needed goes back to the system when they have left.
//!
//! Left to itself, glibc's allocator keeps most of it. It raises its own thresholds as large blocks come and go; it has
//! a heap for each thread, with a reserve at the end of each; and each thread's cache of freed blocks pins the pages that
//! they are in. All of that can be set, but only in an environment variable that is read when a program starts: so
//! [`settle`] starts the program once more, as the same process, with that variable. Then one heap is left, which is cut
//! off behind the last block in use, as soon as enough of it is free there; and [`give_back`] makes it be enough.
//!
//! 5 000 clients in full flow, come and gone: 3.1 MiB resident before, 28 MiB at the peak, 20 MiB after as glibc would
//! have it, 3.2 MiB like this. With another C library, nothing here does anything.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the heap has our settings.
static SETTLED: AtomicBool = AtomicBool::new(false);

/// Bytes from which on a block is a mapping of its own: more than a message with the default `max_payload`, which would
/// cost a page fault for each of its pages otherwise.
const MAPPED_BYTES_MIN: usize = if cfg!(target_pointer_width = "64") {
    1280 * 1024
} else {
    // As much as there may be.
    512 * 1024
};
/// Free bytes at the heap's end above which it is cut off.
const FREE_BYTES_MAX: usize = 3 * MAPPED_BYTES_MIN;
/// Bytes by which it grows, and which stay when it is cut off.
const STEP_BYTES: usize = 32 * 1024;

/// Sees to it that the heap has our settings. For the start of a program: it may begin anew.
pub fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::settle();
}

/// For how many more entries to make room in a table of `len` that is full: at least one.
///
/// A table that grows within the heap leaves a hole behind each time. Where it may become large it is a mapping of its own
/// at once: only what is used of that takes memory, and it grows without being copied.
#[must_use]
pub fn room<T>(len: usize) -> usize {
    /// Entries of a table that may well stay small.
    const FEW: usize = 256;
    if len < FEW || !SETTLED.load(Ordering::Relaxed) {
        return 1;
    }
    let mapped = MAPPED_BYTES_MIN / size_of::<T>().max(1) + 1;
    mapped.saturating_sub(len).max(1)
}

/// Makes a buffer `len` bytes long; new ones are zeros.
///
/// It does what [`Vec::resize`] does, which sets one byte after the other where code is to be small: 24 instructions for
/// each, two milliseconds for a worker's read buffer.
pub fn resize(buffer: &mut Vec<u8>, len: usize) {
    const ZEROS: [u8; 512] = [0; 512];
    if buffer.capacity() == 0 {
        *buffer = vec![0; len];
    }
    buffer.truncate(len);
    while buffer.len() < len {
        let missing = (len - buffer.len()).min(ZEROS.len());
        buffer.extend_from_slice(ZEROS.get(..missing).unwrap_or_default());
    }
}

/// Gives the free end of the heap back to the system.
pub fn give_back() {
    /// Blocks that are a little more than may be free, and each a little less than a mapping of its own.
    const BLOCKS: usize = 4;
    const BLOCK_BYTES: usize = MAPPED_BYTES_MIN / 8 * 7;
    const _: () = assert!(BLOCKS * BLOCK_BYTES > FREE_BYTES_MAX);
    if SETTLED.load(Ordering::Relaxed) {
        // Nothing touches these, so that they cost no memory; as they are freed, too much is.
        let blocks = [const { BLOCK_BYTES }; BLOCKS].map(Vec::<u8>::with_capacity);
        drop(black_box(blocks));
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::atomic::Ordering;
    use std::{env, fs};

    use super::{FREE_BYTES_MAX, MAPPED_BYTES_MIN, SETTLED, STEP_BYTES};

    /// Where glibc looks for settings: `name=value:name=value`.
    const TUNABLES: &str = "GLIBC_TUNABLES";
    /// What the names of those for the heap begin with.
    const HEAP: &str = "glibc.malloc.";
    /// Says that the program has begun anew. The variable above would not do: the loader withholds it from a program with
    /// privileges of its own, and cuts it up for any other.
    const MARK: &str = "MIDGE_HEAP";

    pub(super) fn settle() {
        let given = env::var(TUNABLES).unwrap_or_default();
        if env::var_os(MARK).is_some() {
            return SETTLED.store(true, Ordering::Relaxed);
        }
        let mut arguments = env::args_os();
        // Whoever has set something there knows what for.
        if let (false, Some(program), Some(name)) =
            (given.contains(HEAP), own_file(), arguments.next())
        {
            let tunables = match given.as_str() {
                "" => settings(),
                given => format!("{given}:{}", settings()),
            };
            let mut again = Command::new(program);
            again.arg0(name).args(arguments);
            // It returns only if it fails, and then all goes on with the heap as it is.
            let _ = again.env(TUNABLES, tunables).env(MARK, "1").exec();
        }
    }

    /// The file of this program, if the system itself runs it.
    ///
    /// An emulator of another processor shows the program its own file behind the first name, and forgets the second; the
    /// system could make nothing of that file.
    fn own_file() -> Option<PathBuf> {
        let file = fs::read_link("/proc/self/exe").ok()?;
        let really = fs::read_link("/proc/thread-self/exe").ok()?;
        (file == really && is_ours(&file)).then_some(file)
    }

    /// Whether this code is from `file`: where the loader was called with the name of the program, the system runs the
    /// loader, which could make nothing of our arguments alone.
    fn is_ours(file: &Path) -> bool {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let here = settle as fn() as usize;
        let holds_it = |line: &&str| {
            let range = line.split(' ').next().and_then(|it| it.split_once('-'));
            let address = |text| usize::from_str_radix(text, 16).ok();
            range.is_some_and(|(from, to)| {
                address(from).is_some_and(|from| from <= here)
                    && address(to).is_some_and(|to| here < to)
            })
        };
        let line = maps.lines().find(holds_it).unwrap_or_default();
        line.ends_with(&format!(" {}", file.display()))
    }

    fn settings() -> String {
        let values = [
            ("arena_max", 1),
            ("tcache_count", 0),
            ("mmap_threshold", MAPPED_BYTES_MIN),
            ("trim_threshold", FREE_BYTES_MAX),
            ("top_pad", STEP_BYTES),
        ];
        let all = values.map(|(name, value)| format!("{HEAP}{name}={value}"));
        all.join(":")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_made_longer_with_zeros_and_shorter() {
        for start in [0, 1, 600, 4000] {
            for len in [0, 1, 511, 512, 513, 5000] {
                let mut buffer = vec![7; start];
                let mut wanted = buffer.clone();
                wanted.resize(len, 0);
                resize(&mut buffer, len);
                assert_eq!(buffer, wanted, "{start} to {len}");
            }
        }
    }
}
