//! Plays the transcripts in `tests/transcripts/` against midge, and against the reference server where `NATS_SERVER`
//! names it, so that no expectation is invented.
//!
//! The README beside the transcripts explains their form. Each case gets a server process of its own.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use support::connection::Connection;
use support::server::{Server, Start};
use support::{Program, escaped, say_left_out};

/// Cases of one file that run at a time.
const AT_A_TIME: usize = 4;

/// A test for each file and each server, so that the list of tests tells which part of the protocol fails.
macro_rules! transcripts {
    ($($name:ident = $file:literal,)*) => {
        mod midge {
            $(#[test] fn $name() { crate::play_file(crate::Program::Midge, $file); })*
        }

        mod reference {
            $(#[test] fn $name() { crate::play_file(crate::Program::Reference, $file); })*
        }

        /// The files that the tests above play.
        const FILES: &[&str] = &[$($file,)*];
    };
}

transcripts! {
    framing = "framing.txt",
    sizes = "sizes.txt",
    control_line = "control-line.txt",
    connect = "connect.txt",
    subjects = "subjects.txt",
    sub_unsub = "sub-unsub.txt",
    queue = "queue.txt",
    headers = "headers.txt",
    no_responders = "no-responders.txt",
    auth = "auth.txt",
    limits = "limits.txt",
    permissions = "permissions.txt",
    streams = "streams.txt",
    services = "services.txt",
    mappings = "mappings.txt",
}

#[test]
fn every_transcript_is_played() {
    let found = std::fs::read_dir(directory()).expect("the directory is there");
    let mut found: Vec<_> = found
        .map(|entry| entry.expect("a readable entry").file_name())
        .map(|name| name.into_string().expect("a name in UTF-8"))
        .filter(|name| name.ends_with(".txt"))
        .collect();
    let mut played = FILES.to_vec();
    found.sort();
    played.sort_unstable();
    assert_eq!(found, played);
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn play_file(program: Program, file: &str) {
    let Some(path) = program.path() else { return };
    let text = std::fs::read_to_string(directory().join(file)).expect("a transcript is readable");
    let cases = match parse(&text) {
        Ok(cases) => cases,
        Err(error) => panic!("{file}: {error}"),
    };
    let all = cases.len();
    let (cases, left_out) = choose(program, cases);
    for (why, count) in left_out {
        say_left_out(&format!("{count} of {all} cases of {file}: {why}"));
    }
    let failures = play_all(&path, cases);
    let (failed, texts) = (failures.len(), failures.join("\n"));
    assert!(
        failed == 0,
        "{program}, {file}: {failed} failed\n\n{texts}\n"
    );
}

/// Parts the cases that `program` can play from the others, which are counted by reason.
fn choose(program: Program, cases: Vec<Case>) -> (Vec<Case>, BTreeMap<&'static str, usize>) {
    let mut left_out = BTreeMap::new();
    let mut chosen = Vec::new();
    for case in cases {
        let lacking = case.needs().find_map(|feature| program.lacks(feature));
        match lacking {
            Some(why) => *left_out.entry(why).or_default() += 1,
            None => chosen.push(case),
        }
    }
    (chosen, left_out)
}

/// Plays `cases`, a few at a time; gives the text of each failure.
fn play_all(path: &Path, cases: Vec<Case>) -> Vec<String> {
    let failures = Mutex::new(Vec::new());
    let queue = Mutex::new(cases.into_iter());
    let next = || queue.lock().expect("nobody panics holding it").next();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = next() {
                    if let Err(why) = play(path, &case) {
                        let text = format!("  case \"{}\"\n    {why}", case.name);
                        failures.lock().expect("nobody panics here").push(text);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("all players have ended")
}

/// One case of a transcript.
#[derive(Debug, Default)]
struct Case {
    name: String,
    conf: String,
    needs: Vec<String>,
    steps: Vec<(usize, Step)>,
}

impl Case {
    /// The features that a server needs for it.
    fn needs(&self) -> impl Iterator<Item = &str> {
        let reloads = self.steps.iter().filter_map(|(_, step)| match step {
            Step::Reload(conf) => Some(conf),
            _ => None,
        });
        let confs: Vec<_> = reloads.chain([&self.conf]).collect();
        let blocks = ["authorization", "accounts"].into_iter();
        blocks
            .filter(move |block| confs.iter().any(|conf| conf.contains(block)))
            .chain(self.needs.iter().map(String::as_str))
    }

    fn wants_pings(&self) -> bool {
        let is_ping = |bytes: &Vec<u8>| bytes.starts_with(b"PING\r\n");
        let mut steps = self.steps.iter().map(|(_, step)| step);
        steps.any(|step| matches!(step, Step::Expect(_, bytes) if is_ping(bytes)))
    }
}

/// One step of a case. `char` names the connection.
#[derive(Debug, PartialEq)]
enum Step {
    Open(char),
    Send(char, Vec<u8>),
    Expect(char, Vec<u8>),
    ExpectInfo(char, String),
    ExpectInAnyOrder(char, Vec<Vec<u8>>),
    ExpectOneOf(char, Vec<Vec<u8>>),
    Quiet(char),
    End(char),
    FinishSending(char),
    Close(char),
    Signal(Signal),
    Reload(String),
}

/// Reads the cases of one file.
fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    // Whether the line above ended a write, so that the next one is not joined to it.
    let mut cut = false;
    for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line)) {
        let wrong = |why: &str| format!("line {number}: {why}: {line}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            let name = name.to_owned();
            if cases.iter().any(|case| case.name == name) {
                return Err(wrong("a second case of this name"));
            }
            cases.push(Case {
                name,
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().ok_or_else(|| wrong("no case yet"))?;
        if line == "--" {
            cut = true;
        } else if let Some(conf) = line.strip_prefix("conf> ") {
            case.conf.push_str(conf);
            case.conf.push('\n');
        } else if let Some(feature) = line.strip_prefix("needs ") {
            case.needs.push(feature.to_owned());
        } else {
            let step = parse_step(line).map_err(|why| wrong(&why))?;
            add_step(case, number, step, cut);
            cut = false;
        }
    }
    Ok(cases)
}

fn parse_step(line: &str) -> Result<Step, String> {
    if let Some(name) = line.strip_prefix("signal ") {
        return match name {
            "INT" => Ok(Step::Signal(Signal::INT)),
            "TERM" => Ok(Step::Signal(Signal::TERM)),
            "USR1" => Ok(Step::Signal(Signal::USR1)),
            "USR2" => Ok(Step::Signal(Signal::USR2)),
            _ => Err("an unknown signal".to_owned()),
        };
    }
    if let Some(conf) = line.strip_prefix("reload> ") {
        return Ok(Step::Reload(format!("{conf}\n")));
    }
    let (head, rest) = line.split_at_checked(2).unwrap_or((line, ""));
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let mut head = head.chars();
    let (Some(who @ 'A'..='Z'), Some(what)) = (head.next(), head.next()) else {
        return Err("an unknown step".to_owned());
    };
    Ok(match (what, rest) {
        ('+', "") => Step::Open(who),
        ('-', "") => Step::Close(who),
        ('^', "") => Step::FinishSending(who),
        ('.', "quiet") => Step::Quiet(who),
        ('.', "eof") => Step::End(who),
        ('>', _) => Step::Send(who, octets(rest)?),
        ('<', "INFO") => Step::ExpectInfo(who, String::new()),
        ('<', _) => match rest.strip_prefix("INFO ") {
            Some(wants) => Step::ExpectInfo(who, wants.to_owned()),
            None => Step::Expect(who, octets(rest)?),
        },
        ('~', _) => Step::ExpectInAnyOrder(who, vec![octets(rest)?]),
        ('|', _) => Step::ExpectOneOf(who, vec![octets(rest)?]),
        _ => return Err("an unknown step".to_owned()),
    })
}

/// What encloses a name in the bytes that a line stands for.
const NAME: u8 = 0x1a;

/// Adds a step, joined to the one before it if they make up one write or one expectation.
fn add_step(case: &mut Case, number: usize, step: Step, cut: bool) {
    let last = case.steps.last_mut().map(|(_, step)| step);
    match (last, step) {
        (Some(Step::Send(a, all)), Step::Send(b, more)) if *a == b && !cut => all.extend(more),
        (Some(Step::Expect(a, all)), Step::Expect(b, more)) if *a == b => all.extend(more),
        (Some(Step::ExpectInAnyOrder(a, all)), Step::ExpectInAnyOrder(b, more)) if *a == b => {
            all.extend(more);
        }
        (Some(Step::ExpectOneOf(a, all)), Step::ExpectOneOf(b, more)) if *a == b => {
            all.extend(more);
        }
        (Some(Step::Reload(all)), Step::Reload(more)) => all.push_str(&more),
        (_, step) => case.steps.push((number, step)),
    }
}

/// The bytes that a line of a transcript stands for, the CRLF at its end included.
fn octets(line: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let mut chars = escape.chars();
        let byte = match chars.next() {
            None => return Ok(out),
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('s') => b' ',
            Some('0') => b'\0',
            Some('\\') => b'\\',
            Some('x') => {
                let digits = escape.get(1..3).ok_or("two digits must follow \\x")?;
                chars.nth(1);
                u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?
            }
            Some('<') => {
                let (name, after) = escape.split_once('>').ok_or("\\< without >")?;
                out.push(NAME);
                out.extend_from_slice(name.trim_start_matches('<').as_bytes());
                out.push(NAME);
                rest = after;
                continue;
            }
            Some('{') => {
                let (run, after) = escape.split_once('}').ok_or("\\{ without }")?;
                let run = run.get(1..).and_then(|run| run.split_once('*'));
                let (count, what) = run.ok_or("a run is written \\{count*text}")?;
                let count = count.parse::<usize>().map_err(|e| e.to_string())?;
                out.extend(what.repeat(count).into_bytes());
                rest = after;
                continue;
            }
            Some(_) => return Err("an unknown escape".to_owned()),
        };
        out.push(byte);
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// A case being played.
struct Player {
    server: Server,
    connections: BTreeMap<char, Connection>,
    /// What names stand for.
    names: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether the server's PINGs are a part of the case.
    wants_pings: bool,
}

/// Plays one case on a fresh server; the error says what differed, and where.
fn play(path: &Path, case: &Case) -> Result<(), String> {
    let mut start = Start::new(path);
    if !case.conf.is_empty() {
        start = start.conf(&case.conf);
    }
    let mut player = Player {
        server: start.run()?,
        connections: BTreeMap::new(),
        names: BTreeMap::new(),
        wants_pings: case.wants_pings(),
    };
    let mut steps = case.steps.iter().peekable();
    while let Some((number, step)) = steps.next() {
        player
            .step(step)
            .map_err(|why| format!("line {number}: {why}"))?;
        // Two writes in a row are two only if the server has read the first before the second is there.
        if let (Step::Send(who, _), Some((_, Step::Send(next, _)))) = (step, steps.peek()) {
            if who == next {
                player.connection(*who)?.wait_until_read();
            }
        }
    }
    player.finish()
}

impl Player {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Open(who) => {
                let mut connection =
                    Connection::open(self.server.address()).map_err(|e| e.to_string())?;
                if self.wants_pings {
                    connection.keep_pings();
                }
                self.connections.insert(*who, connection);
            }
            Step::Send(who, bytes) => {
                let bytes = self.named(bytes)?;
                self.connection(*who)?.send(&bytes);
            }
            Step::Expect(who, bytes) => self.expect(*who, bytes)?,
            Step::ExpectInfo(who, wants) => {
                check_info(&self.connection(*who)?.take_info()?, wants)?;
            }
            Step::ExpectInAnyOrder(who, pieces) => {
                let all = pieces.iter().map(Vec::len).sum();
                let got = self.connection(*who)?.take_bytes(all)?;
                if !is_permutation(&got, pieces) {
                    return Err(format!("got {}, no order of the pieces", escaped(&got)));
                }
            }
            Step::ExpectOneOf(who, pieces) => self.expect_one_of(*who, pieces)?,
            Step::Quiet(who) => self.connection(*who)?.take_nothing()?,
            Step::End(who) => self.connection(*who)?.take_end()?,
            Step::FinishSending(who) => self.connection(*who)?.finish_sending(),
            Step::Close(who) => {
                // The server has seen the end of it when it has closed its own side.
                let mut connection = self.connections.remove(who).ok_or("it is not open")?;
                connection.finish_sending();
                connection.take_end()?;
            }
            Step::Signal(signal) => self.server.process().signal(*signal),
            Step::Reload(conf) => self.server.reload(conf)?,
        }
        Ok(())
    }

    /// The connection of this name; a new one has its first INFO read.
    fn connection(&mut self, who: char) -> Result<&mut Connection, String> {
        if !self.connections.contains_key(&who) {
            self.step(&Step::Open(who))?;
            self.step(&Step::ExpectInfo(who, String::new()))?;
        }
        self.connections
            .get_mut(&who)
            .ok_or_else(|| "it is not open".to_owned())
    }

    /// Bytes with what their names stand for.
    fn named(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for (i, piece) in bytes.split(|&byte| byte == NAME).enumerate() {
            match i % 2 {
                0 => out.extend_from_slice(piece),
                _ => {
                    let known = self.names.get(piece);
                    let unknown = || format!("{} stands for nothing yet", escaped(piece));
                    out.extend_from_slice(known.ok_or_else(unknown)?);
                }
            }
        }
        Ok(out)
    }

    /// Takes bytes in which a name that is new stands for whatever comes up to the next blank or line end.
    fn expect(&mut self, who: char, bytes: &[u8]) -> Result<(), String> {
        for (i, piece) in bytes.split(|&byte| byte == NAME).enumerate() {
            let known = self.names.get(piece).cloned();
            let connection = self.connection(who)?;
            match known {
                _ if i % 2 == 0 => connection.take(piece)?,
                Some(known) => connection.take(&known)?,
                None => {
                    let word = connection.take_word()?;
                    self.names.insert(piece.to_vec(), word);
                }
            }
        }
        Ok(())
    }

    fn expect_one_of(&mut self, who: char, pieces: &[Vec<u8>]) -> Result<(), String> {
        let connection = self.connection(who)?;
        let mut seen = 0;
        loop {
            let got = connection.look(seen + 1, support::DEADLINE);
            if let Some(piece) = pieces.iter().find(|piece| got.starts_with(piece)) {
                return connection.take(piece);
            }
            let possible = pieces.iter().any(|piece| piece.starts_with(got));
            if !possible || got.len() == seen {
                return Err(format!("got {}, none of the pieces", escaped(got)));
            }
            seen = got.len();
        }
    }

    /// Ends every connection that is still open: what it has received must have been read.
    fn finish(mut self) -> Result<(), String> {
        for connection in self.connections.values_mut() {
            connection.finish_sending();
        }
        for (who, connection) in &mut self.connections {
            connection
                .take_end()
                .map_err(|why| format!("at the end, on {who}: {why}"))?;
        }
        Ok(())
    }
}

/// Checks an INFO against words such as `headers`, `headers=true` and `!nonce`.
fn check_info(info: &Value, wants: &str) -> Result<(), String> {
    for want in wants.split_ascii_whitespace() {
        let holds = if let Some(key) = want.strip_prefix('!') {
            info.get(key).is_none()
        } else if let Some((key, value)) = want.split_once('=') {
            let value = serde_json::from_str(value).map_err(|e| format!("{want}: {e}"))?;
            info.get(key) == Some(&value)
        } else {
            info.get(want).is_some()
        };
        if !holds {
            return Err(format!("wanted {want}, got INFO {info}"));
        }
    }
    Ok(())
}

/// Whether `got` is these pieces one after the other, in some order.
fn is_permutation(got: &[u8], pieces: &[Vec<u8>]) -> bool {
    if pieces.is_empty() {
        return got.is_empty();
    }
    pieces.iter().enumerate().any(|(i, piece)| {
        let mut others = pieces.to_vec();
        others.remove(i);
        got.strip_prefix(piece.as_slice())
            .is_some_and(|rest| is_permutation(rest, &others))
    })
}

#[test]
fn a_line_stands_for_its_bytes() {
    let bytes = |line| octets(line).expect("a valid line");
    assert_eq!(bytes("PING"), b"PING\r\n");
    assert_eq!(bytes(""), b"\r\n");
    assert_eq!(bytes("PING\\"), b"PING");
    assert_eq!(bytes("a\\n\\"), b"a\n");
    assert_eq!(bytes(r"\s\t\0\\\xff|\r"), b" \t\0\\\xff|\r\r\n");
    assert_eq!(bytes(r"x\{3*ab}y"), b"xabababy\r\n");
    assert_eq!(bytes(r"PUB \<there> 1"), b"PUB \x1athere\x1a 1\r\n");
    assert!(octets(r"\q").is_err());
    assert!(octets(r"\<a").is_err());
    assert!(octets(r"\{3*a").is_err());
}

#[test]
fn adjacent_lines_of_one_kind_make_up_one_step() {
    let text = "== a name\nA> 1\nA> 2\n--\nA> 3\nA< 4\nA< 5\nA~ 6\nA~ 7\nB~ 8\n";
    let cases = parse(text).expect("a valid transcript");
    let steps: Vec<_> = cases[0].steps.iter().map(|(_, step)| step).collect();
    let bytes = |text: &str| text.as_bytes().to_vec();
    let wanted = [
        Step::Send('A', bytes("1\r\n2\r\n")),
        Step::Send('A', bytes("3\r\n")),
        Step::Expect('A', bytes("4\r\n5\r\n")),
        Step::ExpectInAnyOrder('A', vec![bytes("6\r\n"), bytes("7\r\n")]),
        Step::ExpectInAnyOrder('B', vec![bytes("8\r\n")]),
    ];
    assert_eq!(steps, wanted.iter().collect::<Vec<_>>());
}

#[test]
fn mistakes_in_a_transcript_are_found() {
    for text in ["A> PING", "== a\nfoo", "== a\n== a", "== a\nA. loud"] {
        assert!(parse(text).is_err(), "{text}");
    }
}
