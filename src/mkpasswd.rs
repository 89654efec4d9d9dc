//! `mkpasswd`: makes a password, or takes one, and prints its bcrypt hash for a configuration file.
//!
//! Only results go to standard output; what is asked and what went wrong goes to standard error.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bcrypt::Version;
use getopts::{HasArg, Occur, ParsingStyle};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::cause::cause;
use crate::cli::parse_bool;
use crate::id::random;

/// The hash's cost unless told otherwise.
pub const COST: u32 = 11;
/// Costs that bcrypt knows: each one more doubles the work.
pub const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// bcrypt ignores what follows; a longer password would be weaker than it looks.
pub const PASSWORD_BYTES_MAX: usize = 72;

const GENERATED_LENGTH: usize = 22;
const ALPHABET: &[u8; 72] =
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!@$#%^&*()";
/// More than anyone types.
const LINE_BYTES_MAX: usize = 4096;
const USAGE: &str = "\
Usage: mkpasswd [-p] [-c COST]
    -p          read a password from the terminal, or two equal lines from a pipe
    -c <cost>   cost of the hash, 4 to 31 (default: 11)
    -h          show this text
Without -p a password is made up.
";

/// Why there is no hash.
#[derive(Debug)]
pub enum MkpasswdError {
    /// Outside [`COSTS`].
    Cost(String),
    /// A flag that is unknown or lacks its value.
    Flag(String),
    /// bcrypt itself.
    Hash(String),
    /// Input that cannot be read, or output that cannot be written.
    Io(io::Error),
    /// The two passwords differ.
    Mismatch,
    /// Input that ends before a password, or an empty one.
    NoPassword,
    /// The bytes of a password beyond [`PASSWORD_BYTES_MAX`], as far as it was read.
    PasswordTooLong(usize),
}

impl fmt::Display for MkpasswdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MkpasswdError::Cost(cost) => {
                let (low, high) = (COSTS.start(), COSTS.end());
                write!(
                    f,
                    "Error producing bcrypt hash: cost {cost:?} must be from {low} to {high}"
                )
            }
            MkpasswdError::Flag(what) => write!(f, "{what} (try `mkpasswd -h`)"),
            MkpasswdError::Hash(cause) => write!(f, "Error producing bcrypt hash: {cause}"),
            MkpasswdError::Io(error) => write!(f, "Error reading or writing: {}", cause(error)),
            MkpasswdError::Mismatch => f.write_str("Error, passwords do not match"),
            MkpasswdError::NoPassword => f.write_str("Error, no password was given"),
            MkpasswdError::PasswordTooLong(bytes) => {
                let more = if *bytes < LINE_BYTES_MAX {
                    ""
                } else {
                    " or more"
                };
                write!(
                    f,
                    "Error producing bcrypt hash: password has {bytes} bytes{more}, bcrypt takes {PASSWORD_BYTES_MAX} at the \
                     most"
                )
            }
        }
    }
}

impl std::error::Error for MkpasswdError {}

impl From<io::Error> for MkpasswdError {
    fn from(error: io::Error) -> Self {
        MkpasswdError::Io(error)
    }
}

/// The program: `arguments` without its name, the standard streams as they are.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = run(
        arguments,
        &mut BufReader::new(io::stdin()),
        &mut io::stdout(),
        &mut io::stderr(),
    );
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(io::stderr(), "{error}");
    ExitCode::from(if matches!(error, MkpasswdError::Flag(_)) {
        2
    } else {
        1
    })
}

fn run(
    arguments: impl IntoIterator<Item = OsString>,
    input: &mut impl BufRead,
    output: &mut impl Write,
    prompts: &mut impl Write,
) -> Result<(), MkpasswdError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut options = getopts::Options::new();
    options
        .long_only(true)
        .parsing_style(ParsingStyle::StopAtFirstFree);
    options.optflagmulti("h", "help", "");
    options.opt("p", "", "", "", HasArg::Maybe, Occur::Multi);
    options.opt("c", "", "", "", HasArg::Yes, Occur::Multi);
    let matches = options
        .parse(&arguments)
        .map_err(|fail| MkpasswdError::Flag(fail.to_string()))?;
    if matches.opt_present("h") {
        output.write_all(USAGE.as_bytes())?;
        return Ok(());
    }
    // The cost is checked first: nobody wants to type a password twice for an error.
    let cost = match matches.opt_strs("c").pop() {
        None => COST,
        Some(text) => text
            .parse()
            .ok()
            .filter(|cost| COSTS.contains(cost))
            .ok_or(MkpasswdError::Cost(text))?,
    };
    if asks(&matches)? {
        let password = ask(input, prompts)?;
        writeln!(output, "bcrypt hash: {}", hash(&password, cost)?)?;
    } else {
        let password = generate();
        let hash = hash(password.as_bytes(), cost)?;
        writeln!(output, "pass: {password}\nbcrypt hash: {hash}")?;
    }
    Ok(())
}

/// Whether `-p` is there, the last time without `=false`.
fn asks(matches: &getopts::Matches) -> Result<bool, MkpasswdError> {
    let last = matches.opt_positions("p").pop();
    let values = matches.opt_strs_pos("p");
    let Some((_, text)) = values.iter().find(|(at, _)| Some(*at) == last) else {
        return Ok(last.is_some());
    };
    parse_bool(text).ok_or_else(|| {
        let text = format!("invalid boolean value {text:?} for -p: must be true or false");
        MkpasswdError::Flag(text)
    })
}

/// The bcrypt hash of `password`, as configuration files and the reference server's tools write it: `$2a$11$..`.
///
/// # Errors
///
/// [`MkpasswdError`] for a cost or a length that bcrypt does not have.
pub fn hash(password: &[u8], cost: u32) -> Result<String, MkpasswdError> {
    if !COSTS.contains(&cost) {
        return Err(MkpasswdError::Cost(cost.to_string()));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(MkpasswdError::PasswordTooLong(password.len()));
    }
    let parts = bcrypt::hash_with_salt(password, cost, random());
    let parts = parts.map_err(|error| MkpasswdError::Hash(error.to_string()))?;
    Ok(parts.format_for_version(Version::TwoA))
}

/// A password of 22 characters, each of 72 as likely as any other: 135 bits.
pub fn generate() -> String {
    // A whole number of alphabets; a byte beyond it would favour the first letters.
    let fair = 256 / ALPHABET.len() * ALPHABET.len();
    let mut password = String::with_capacity(GENERATED_LENGTH);
    while password.len() < GENERATED_LENGTH {
        let [byte] = random();
        let index = usize::from(byte);
        if index < fair {
            password.push(char::from(ALPHABET[index % ALPHABET.len()]));
        }
    }
    password
}

/// Reads the same password twice: from a terminal without showing it, or two lines from anything else.
fn ask(input: &mut impl BufRead, prompts: &mut impl Write) -> Result<Vec<u8>, MkpasswdError> {
    let silence = Silence::begin();
    let mut ask_once = |prompt: &str| {
        if silence.is_some() {
            write!(prompts, "{prompt}")?;
            prompts.flush()?;
        }
        let line = read_line(input);
        if silence.is_some() {
            // The one that was typed is not shown, either.
            writeln!(prompts)?;
        }
        line
    };
    let first = ask_once("Enter Password: ")?;
    let second = ask_once("Reenter Password: ")?;
    if first == second {
        Ok(first)
    } else {
        Err(MkpasswdError::Mismatch)
    }
}

fn read_line(input: &mut impl BufRead) -> Result<Vec<u8>, MkpasswdError> {
    let mut line = Vec::new();
    let mut input = input.take(LINE_BYTES_MAX as u64);
    input.read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.is_empty() {
        return Err(MkpasswdError::NoPassword);
    }
    if line.len() >= LINE_BYTES_MAX {
        return Err(MkpasswdError::PasswordTooLong(line.len()));
    }
    Ok(line)
}

/// While it lives, the terminal at standard input shows nothing of what is typed. Whatever ends or stops the program
/// meanwhile, such as Ctrl-C or Ctrl-Z, finds the terminal as it was before.
struct Silence {
    before: Termios,
    is_over: Arc<AtomicBool>,
}

impl Silence {
    /// `None` if standard input is no terminal.
    fn begin() -> Option<Silence> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let is_over = Arc::new(AtomicBool::new(false));
        let signals = Signals::new([SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGTSTP]).ok()?;
        let (shown, hidden, over) = (before.clone(), silent.clone(), Arc::clone(&is_over));
        // It lives as long as the program, which has nobody else to take these signals.
        thread::spawn(move || pass_on(signals, &shown, &hidden, &over));
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).ok()?;
        Some(Silence { before, is_over })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Lets each signal do what it does, with the terminal as it was; if that was only to stop for a while, hides what is
/// typed again.
fn pass_on(mut signals: Signals, shown: &Termios, hidden: &Termios, is_over: &AtomicBool) {
    for signal in signals.forever() {
        let set = |state| tcsetattr(io::stdin(), OptionalActions::Now, state);
        if !is_over.load(Ordering::SeqCst) {
            let _ = set(shown);
            // What is shown next does not belong behind the prompt.
            let _ = writeln!(io::stderr());
        }
        // It fails for a signal that the system does not know alone.
        let _ = emulate_default_handler(signal);
        if !is_over.load(Ordering::SeqCst) {
            let _ = set(hidden);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(arguments: &[&str], input: &str) -> Result<String, String> {
        let mut out = Vec::new();
        run(
            arguments.iter().map(OsString::from),
            &mut input.as_bytes(),
            &mut out,
            &mut io::sink(),
        )
        .map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_password_is_made_up_and_its_hash_fits() {
        let text = output(&["-c", "4"], "").unwrap();
        let (password, hash) = text.trim_end().split_once('\n').unwrap();
        let password = password.strip_prefix("pass: ").unwrap();
        let hash = hash.strip_prefix("bcrypt hash: ").unwrap();
        assert_eq!(password.len(), 22);
        assert!(
            password.bytes().all(|byte| ALPHABET.contains(&byte)),
            "{password}"
        );
        assert_eq!(hash.len(), 60);
        assert!(hash.starts_with("$2a$04$"), "{hash}");
        assert!(bcrypt::verify(password, hash).unwrap());
        assert_ne!(text, output(&["-c=4"], "").unwrap());
    }

    #[test]
    fn every_character_of_the_alphabet_turns_up() {
        let mut unseen: Vec<u8> = ALPHABET.to_vec();
        for _ in 0..10_000 {
            let password = generate();
            unseen.retain(|letter| !password.as_bytes().contains(letter));
            if unseen.is_empty() {
                return;
            }
        }
        panic!("never seen: {unseen:?}");
    }

    #[test]
    fn a_hash_of_the_reference_tool_is_understood() {
        let hash = "$2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG";
        assert!(bcrypt::verify("T0pS3cr3t", hash).unwrap());
    }

    #[test]
    fn a_pipe_gives_the_password_in_two_equal_lines() {
        for input in ["secret\nsecret\n", "secret\r\nsecret"] {
            let text = output(&["-p", "-c", "4", "ignored"], input).unwrap();
            let hash = text.trim_end().strip_prefix("bcrypt hash: ").unwrap();
            assert!(bcrypt::verify("secret", hash).unwrap());
        }
        assert_eq!(
            output(&["-p"], "one\ntwo\n"),
            Err("Error, passwords do not match".into())
        );
        assert_eq!(
            output(&["-p"], ""),
            Err("Error, no password was given".into())
        );
        assert_eq!(
            output(&["-p"], "\n\n"),
            Err("Error, no password was given".into())
        );
        assert_eq!(
            output(&["-p"], "one\n"),
            Err("Error, no password was given".into())
        );
    }

    #[test]
    fn what_bcrypt_would_cut_off_is_refused() {
        let longest = "x".repeat(72);
        assert!(bcrypt::verify(&longest, &hash(longest.as_bytes(), 4).unwrap()).unwrap());
        let long = "x".repeat(73);
        let error = output(&["-p", "-c", "4"], &format!("{long}\n{long}\n")).unwrap_err();
        assert_eq!(
            error,
            "Error producing bcrypt hash: password has 73 bytes, bcrypt takes 72 at the most"
        );
        let long = "x".repeat(5000);
        let error = output(&["-p", "-c", "4"], &format!("{long}\n{long}\n")).unwrap_err();
        assert_eq!(
            error,
            "Error producing bcrypt hash: password has 4096 bytes or more, bcrypt takes 72 at the most"
        );
    }

    #[test]
    fn a_cost_outside_its_range_is_refused() {
        for cost in ["3", "32", "-1", "x", ""] {
            let expected =
                format!("Error producing bcrypt hash: cost {cost:?} must be from 4 to 31");
            assert_eq!(output(&["-c", cost], ""), Err(expected));
        }
    }

    #[test]
    fn flags_are_spelled_with_one_dash_or_two() {
        assert_eq!(output(&["-h"], "").unwrap(), USAGE);
        let asked = |arguments: &[&str]| {
            let text = output(&[arguments, &["-c", "4"]].concat(), "a\na\n");
            text.map(|text| !text.contains("pass: "))
        };
        assert_eq!(asked(&["-p=true"]), Ok(true));
        assert_eq!(asked(&["-p=false"]), Ok(false));
        assert_eq!(asked(&["-p=0", "--p"]), Ok(true));
        assert_eq!(asked(&["-p", "-p=F"]), Ok(false));
        let expected =
            "invalid boolean value \"x\" for -p: must be true or false (try `mkpasswd -h`)";
        assert_eq!(asked(&["-p=x"]), Err(expected.into()));
        assert_eq!(output(&["--h"], "").unwrap(), USAGE);
        assert!(output(&["--c=4"], "").unwrap().contains("$2a$04$"));
        assert!(
            output(&["-x"], "")
                .unwrap_err()
                .ends_with("(try `mkpasswd -h`)")
        );
    }
}
