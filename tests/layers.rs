//! Keeps the layers in order: reads the sources in `src/` and fails where a module uses one that it must not know.
//!
//! A module is what stands directly in `src/`. It may use those of lower layers and of its own, but for the pairs in
//! [`STRANGERS`]; what does no I/O names no socket (an address is a value), clock, thread or file; and `net` alone knows mio
//! and rustls.

use std::fmt;
use std::path::{Path, PathBuf};

/// The layers, from the bottom: which modules each one holds.
const LAYERS: &[&[&str]] = &[
    &[
        "certificate",
        "subject",
        "limits",
        "clock",
        "heap",
        "rng",
        "id",
        "nkey",
        "order",
        "stats",
        "log",
        "cause",
    ],
    &["proto", "s2", "sublist", "config"],
    &["session", "broker"],
    &["engine", "monitor"],
    &["net"],
    &["server", "cli", "signal", "notify", "mkpasswd", "main"],
];

/// Modules of one layer that must not know each other.
const STRANGERS: &[(&str, &str)] = &[("session", "broker")];

/// Modules that take bytes, values and `now`, and do no I/O.
const SANS_IO: &[&str] = &[
    "certificate",
    "proto",
    "s2",
    "subject",
    "sublist",
    "session",
    "broker",
    "engine",
];

/// What [`SANS_IO`] modules must not name.
const IO: &[&str] = &[
    "net::TcpListener",
    "net::TcpStream",
    "net::UdpSocket",
    "net::ToSocketAddrs",
    "std::fs",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
];

/// Packages that one module alone may use.
const OWNED: &[(&str, &str)] = &[("mio", "net"), ("rustls", "net")];

#[test]
fn imports_point_down_the_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(!files.is_empty(), "no sources in {}", root.display());
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).expect("it was found there");
        // Tests may use whatever helps them.
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a source is readable");
        wrong.extend(check(path, &text));
    }
    let lines: Vec<_> = wrong.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

/// Adds the Rust sources below `dir` to `files`.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of sources is readable") {
        let path = entry.expect("so are its entries").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A name that a source must not use.
#[derive(Debug, PartialEq)]
struct Violation {
    path: PathBuf,
    line: usize,
    why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.path.display(), self.line, self.why)
    }
}

/// The top-level module that a path inside `src/` belongs to; `None` for the root of the library.
fn module_of(path: &Path) -> Option<String> {
    let first = path.iter().next()?.to_str()?;
    let name = match first {
        // Further programs are as thin as the first.
        "bin" => "main",
        _ => first.strip_suffix(".rs").unwrap_or(first),
    };
    (name != "lib").then(|| name.to_owned())
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What is wrong with the imports of one file.
fn check(path: &Path, text: &str) -> Vec<Violation> {
    let Some(module) = module_of(path) else {
        return Vec::new();
    };
    let violation = |line, why| Violation {
        path: path.to_owned(),
        line,
        why,
    };
    let Some(layer) = layer_of(&module) else {
        let why = format!("`{module}` has no layer: place it in LAYERS of tests/layers.rs");
        return vec![violation(1, why)];
    };
    let code = code_only(text);
    let names = names(&code);
    let mut wrong = Vec::new();
    for (line, name) in &names {
        if let Some(why) = forbidden(&module, layer, &from_root(path, name)) {
            wrong.push(violation(*line, why));
        }
    }
    // A group of names in braces counts once.
    wrong.dedup();
    wrong
}

/// The path `name`, used in the file `path`, as one that starts with `crate` if it leads to the root of the library.
fn from_root(path: &Path, name: &str) -> String {
    let is_own_module = path.ends_with("mod.rs");
    let depth = path.components().count() - usize::from(is_own_module);
    let to_root = "super::".repeat(depth);
    let inside = name.strip_prefix(&to_root);
    match inside.or_else(|| name.strip_prefix("midge::")) {
        Some(inside) => format!("crate::{inside}"),
        None => name.to_owned(),
    }
}

/// Why `module` must not use the path `name`, if so.
fn forbidden(module: &str, layer: usize, name: &str) -> Option<String> {
    if let Some(inside) = name.strip_prefix("crate::") {
        let other = inside.split("::").next()?;
        let other_layer = layer_of(other)?;
        if other_layer > layer {
            return Some(format!("`{module}` uses `{other}`, which is above it"));
        }
        let strangers = |&(a, b)| (a, b) == (module, other) || (b, a) == (module, other);
        if STRANGERS.iter().any(strangers) {
            return Some(format!(
                "`{module}` uses `{other}`: they meet in the engine"
            ));
        }
        return None;
    }
    let package = name.split("::").next()?;
    let owner = OWNED.iter().find(|&&(owned, _)| owned == package);
    if let Some((package, owner)) = owner.filter(|&&(_, owner)| owner != module) {
        return Some(format!("`{module}` uses {package}: only `{owner}` may"));
    }
    let io = IO.iter().find(|io| has_path(name, io));
    io.filter(|_| SANS_IO.contains(&module))
        .map(|io| format!("`{module}` does no I/O and names {io}"))
}

/// Whether the segments of `part` stand side by side in `path`.
fn has_path(path: &str, part: &str) -> bool {
    let path: Vec<_> = path.split("::").collect();
    let part: Vec<_> = part.split("::").collect();
    path.windows(part.len()).any(|window| window == part)
}

/// The paths that occur in `code`, each with its line; groups in braces are spelled out.
fn names(code: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    // What stands before each open brace: a prefix for the paths in a group, nothing for a block.
    let mut prefixes: Vec<String> = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        if is_word(first) {
            let (path, after) = path_at(rest);
            let prefix = prefixes.last().map_or("", String::as_str);
            let whole = format!("{prefix}{path}");
            let lines = rest.len() - after.len();
            line += rest
                .get(..lines)
                .map_or(0, |passed| passed.matches('\n').count());
            rest = after;
            if whole.ends_with("::") && rest.starts_with('{') {
                prefixes.push(whole);
                rest = rest.get(1..).unwrap_or("");
            } else {
                names.push((line, whole.trim_end_matches("::").to_owned()));
            }
            continue;
        }
        match first {
            '\n' => line += 1,
            '{' => prefixes.push(String::new()),
            '}' => drop(prefixes.pop()),
            _ => {}
        }
        rest = rest.get(first.len_utf8()..).unwrap_or("");
    }
    names
}

/// The path at the start of `code`, blanks around its `::` removed, and what follows it.
fn path_at(code: &str) -> (String, &str) {
    let mut path = String::new();
    let mut rest = code;
    loop {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        path.push_str(word);
        rest = after;
        let Some(after) = rest.trim_start().strip_prefix("::") else {
            return (path, rest);
        };
        path.push_str("::");
        rest = after.trim_start();
        if !rest.starts_with(is_word) {
            return (path, rest);
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code without its comments, strings and tests; every line keeps its number.
///
/// Tests may use whatever helps them: the first module for them ends what is looked at, for they stand at the foot.
fn code_only(text: &str) -> String {
    let mut from = 0;
    let tests = text.split_inclusive("#[cfg(test)]\n").find_map(|part| {
        from += part.len();
        let after = text.get(from..)?;
        let item = after.lines().find(|line| !line.starts_with("#["))?;
        item.starts_with("mod ").then_some(from)
    });
    let text = text.get(..tests.unwrap_or(text.len())).unwrap_or(text);
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(len) = literal_len(rest) {
            len
        } else {
            code.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or("");
            continue;
        };
        let (skip, after) = rest.split_at(skipped);
        code.extend(skip.matches('\n'));
        code.push(' ');
        rest = after;
    }
    code
}

/// The length of the string or character literal at the start of `code`, if one is there.
fn literal_len(code: &str) -> Option<usize> {
    let raw = code
        .strip_prefix('r')
        .map(|rest| rest.trim_start_matches('#'));
    if let Some(body) = raw.and_then(|rest| rest.strip_prefix('"')) {
        let hashes = code.len() - body.len() - 2;
        let end = format!("\"{}", "#".repeat(hashes));
        let start = code.len() - body.len();
        return Some(
            body.find(&end)
                .map_or(code.len(), |at| start + at + end.len()),
        );
    }
    let quote = code.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    // A lifetime is no literal: the quote of a character closes right after it.
    if quote == '\'' && !code.starts_with("'\\") && code.chars().nth(2) != Some('\'') {
        return None;
    }
    let mut escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(code.len())
}

#[cfg(test)]
mod checker {
    use std::collections::BTreeSet;

    use super::*;

    /// The texts of what is wrong with `text` as the source of `path`.
    fn wrong(path: &str, text: &str) -> Vec<String> {
        let wrong = check(Path::new(path), text);
        wrong.iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_bad_source_is_found_out() {
        let text = "\
//! Uses crate::net in words only.
use crate::{limits, net::worker::{self, Worker}};
use crate::engine;
use std::{collections::BTreeMap, net::TcpStream};
use std::time::Instant;
fn f() -> crate::broker::Broker {
    let now = Instant::now();
    let text = \"crate::server\"; // std::fs
    mio::Poll::new()
}
";
        let found = wrong("session/client.rs", text);
        let wanted = [
            "src/session/client.rs:2: `session` uses `net`, which is above it",
            "src/session/client.rs:3: `session` uses `engine`, which is above it",
            "src/session/client.rs:4: `session` does no I/O and names net::TcpStream",
            "src/session/client.rs:6: `session` uses `broker`: they meet in the engine",
            "src/session/client.rs:7: `session` does no I/O and names Instant::now",
            "src/session/client.rs:9: `session` uses mio: only `net` may",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_good_source_passes() {
        let text = "use std::net::TcpStream;\nuse crate::engine::Engine;\nuse crate::net::tls;\n\
                    use mio::Poll;\nfn f<'a>(x: &'a str) -> char { '\"' }\n";
        assert!(wrong("net/worker.rs", text).is_empty());
        assert!(wrong("lib.rs", "pub mod net;\npub use crate::server::Server;\n").is_empty());
    }

    #[test]
    fn tests_at_the_foot_of_a_file_are_free() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::thread;\n}\n";
        assert!(wrong("proto/parser.rs", text).is_empty());
        let text = "#[cfg(test)]\nfn helper() {}\nfn f() { std::thread::yield_now() }\n";
        assert_eq!(wrong("proto/parser.rs", text).len(), 1);
        let text = "#[cfg(test)]\n#[expect(x)]\nmod tests { use std::thread; }\n";
        assert!(wrong("proto/parser.rs", text).is_empty());
    }

    #[test]
    fn a_way_through_the_parent_is_seen() {
        assert_eq!(wrong("engine.rs", "use super::net::tls;").len(), 1);
        assert_eq!(wrong("proto/mod.rs", "use super::net::tls;").len(), 1);
        assert_eq!(wrong("proto/args.rs", "use super::super::net;").len(), 1);
        assert!(wrong("proto/args.rs", "use super::net;").is_empty());
    }

    #[test]
    fn an_unknown_module_asks_for_its_place() {
        let found = wrong("gadget/mod.rs", "");
        assert_eq!(
            found,
            ["src/gadget/mod.rs:1: `gadget` has no layer: place it in LAYERS of tests/layers.rs"]
        );
    }

    #[test]
    fn literals_and_comments_are_not_code() {
        let text = "a /* std::fs\n */ b \"std::net \\\" x\" c r#\"std \" x\"# d '\\'' e";
        let words: BTreeSet<_> = names(&code_only(text))
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        let wanted = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!(words, BTreeSet::from(wanted));
    }
}
