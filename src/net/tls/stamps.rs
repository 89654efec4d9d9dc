//! Whether files have changed, without reading them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::options::{Options, TlsConfig};

/// What the system says of the files that a configuration names for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Of one file: its number, its size, and when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamps {
    /// As they are now. A file that is not there has none.
    #[must_use]
    pub fn now(options: &Options) -> Self {
        let blocks = [options.tls.as_ref(), options.cluster.tls.as_ref()];
        let files = blocks.into_iter().flatten().flat_map(files);
        Stamps(files.map(|path| (path.to_owned(), stamp(path))).collect())
    }
}

fn files(tls: &TlsConfig) -> impl Iterator<Item = &Path> {
    let pairs = tls.certs.iter();
    let pairs = pairs.flat_map(|pair| [pair.cert_file.as_path(), pair.key_file.as_path()]);
    pairs.chain(tls.ca_file.as_deref())
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        size: metadata.size(),
        seconds: metadata.mtime(),
        nanoseconds: metadata.mtime_nsec(),
    })
}
