//! Loads arbitrary bytes as a configuration. There are two files to include and some variables in the environment.

#![no_main]
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use midge::config::{self, Outside};

struct Fake;

impl Outside for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        let value = match name {
            "NUMBER" => "16k",
            "LIST" => "[a, b, $NUMBER]",
            "CYCLE" => "$CYCLE",
            "BAD" => "{a: ",
            _ => return None,
        };
        Some(value.into())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("a.conf") => Ok(b"A: 1\ninclude b.conf\nmap {x: $NUMBER}".to_vec()),
            Some("b.conf") => Ok(b"B: {c: [$LIST]}\ninclude a.conf".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fuzz_target!(|text: &[u8]| {
    match config::parse_with("c.conf", text, &Fake, |_| {}) {
        Ok(loaded) => {
            // What loads is fit for a reload onto itself.
            assert!(config::diff(&loaded.options, &loaded.options).is_ok());
        }
        Err(errors) => assert!(!errors.errors.is_empty()),
    }
});
