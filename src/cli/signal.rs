//! `--signal`: tells a running server what to do.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::Command;
use crate::cause::cause;
use crate::order;

/// A server's name among the processes.
const PROCESS_NAME: &str = "midge";
/// Bytes that are read of a file which ought to hold a process id.
const PID_FILE_BYTES_MAX: u64 = 64;

/// Why a signal was not sent.
#[derive(Debug, PartialEq, Eq)]
pub enum SignalError {
    /// The command.
    Unknown(String),
    /// What was given as a process id.
    InvalidPid(String),
    /// No server runs.
    NoProcess,
    /// More than one runs: their ids.
    ManyProcesses(Vec<i32>),
    /// The list of processes cannot be read.
    NoProcessList,
    /// Commands, process ids, and what the system said to them.
    NotDelivered(Vec<(String, i32, String)>),
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignalError::Unknown(command) => write!(f, "unknown signal {command:?}"),
            SignalError::InvalidPid(text) => write!(f, "invalid pid: {}", text.escape_debug()),
            SignalError::NoProcess => write!(f, "no {PROCESS_NAME} processes running"),
            SignalError::ManyProcesses(pids) => {
                write!(f, "multiple {PROCESS_NAME} processes running:")?;
                pids.iter().try_for_each(|pid| write!(f, "\n{pid}"))
            }
            SignalError::NoProcessList => write!(f, "unable to resolve pid, try providing one"),
            SignalError::NotDelivered(failures) => {
                let mut parting = "";
                for (command, pid, why) in failures {
                    write!(f, "{parting}signal {command:?} {pid}: {why}")?;
                    parting = "\n";
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for SignalError {}

/// Sends what `command` stands for to the process that `target` names, and does not wait for its effect.
///
/// `target` is a process id, the name of a file that holds one, or the beginning of one and `*` for all that match. Without it
/// the one server that runs is meant.
///
/// # Errors
///
/// [`SignalError`]; the texts are the reference server's.
pub fn send_signal(command: &str, target: Option<&str>) -> Result<(), SignalError> {
    let signal = signal_of(command).ok_or_else(|| SignalError::Unknown(command.into()))?;
    let pids = resolve(Path::new("/proc"), std::process::id(), target)?;
    let mut failures = Vec::new();
    for pid in pids {
        // Zero and negative ids would stand for whole groups of processes.
        let Some(checked) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
            return Err(SignalError::InvalidPid(pid.to_string()));
        };
        if let Err(error) = kill_process(checked, signal) {
            failures.push((command.into(), pid, cause(&error.into())));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(SignalError::NotDelivered(failures))
    }
}

fn signal_of(command: &str) -> Option<Signal> {
    match command {
        "stop" => Some(Signal::KILL),
        "quit" => Some(Signal::INT),
        "term" => Some(Signal::TERM),
        "reopen" => Some(Signal::USR1),
        "reload" => Some(Signal::HUP),
        "ldm" => Some(Signal::USR2),
        _ => None,
    }
}

/// The processes meant; `processes` is the file system that lists them, `own` is us.
fn resolve(processes: &Path, own: u32, target: Option<&str>) -> Result<Vec<i32>, SignalError> {
    match target.filter(|target| !target.is_empty()) {
        None => {
            let pids = servers(processes, own)?;
            match pids.len() {
                0 => Err(SignalError::NoProcess),
                1 => Ok(pids),
                _ => Err(SignalError::ManyProcesses(pids)),
            }
        }
        Some(target) => match target.strip_suffix('*') {
            Some(prefix) => {
                let mut pids = servers(processes, own)?;
                pids.retain(|pid| pid.to_string().starts_with(prefix));
                Ok(pids)
            }
            None => pid_of(target).map(|pid| vec![pid]),
        },
    }
}

/// Reads a process id, or else the file of that name which holds one.
fn pid_of(target: &str) -> Result<i32, SignalError> {
    let positive = |text: &str| text.parse().ok().filter(|pid| *pid > 0);
    if let Some(pid) = positive(target) {
        return Ok(pid);
    }
    let mut text = String::new();
    let file = fs::File::open(target)
        .and_then(|file| file.take(PID_FILE_BYTES_MAX).read_to_string(&mut text));
    match file {
        Ok(_) => positive(text.trim()).ok_or(SignalError::InvalidPid(text)),
        Err(_) => Err(SignalError::InvalidPid(target.into())),
    }
}

/// All running servers but us, ascending.
fn servers(processes: &Path, own: u32) -> Result<Vec<i32>, SignalError> {
    let entries = fs::read_dir(processes).map_err(|_| SignalError::NoProcessList)?;
    let own = i32::try_from(own).unwrap_or(0);
    let mut pids: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| *pid != own && is_server(&processes.join(pid.to_string())))
        .collect();
    order::sort(&mut pids);
    Ok(pids)
}

/// True if the process is ours by its own name or by its program's, and not a dead one that only waits for its parent.
fn is_server(process: &Path) -> bool {
    // `pid (name) state ..`; the name itself may hold parentheses.
    let Ok(stat) = fs::read_to_string(process.join("stat")) else {
        return false;
    };
    let Some((head, tail)) = stat.rsplit_once(')') else {
        return false;
    };
    let Some((_, name)) = head.split_once('(') else {
        return false;
    };
    if tail.trim_start().starts_with(['Z', 'X']) {
        return false;
    }
    (name == PROCESS_NAME || is_program(process)) && serves(process)
}

/// Whether the process was told to run a server, rather than to ask for the health of one, say. Those who hide that from us
/// hide what they are, too, and count.
fn serves(process: &Path) -> bool {
    let Ok(line) = fs::read(process.join("cmdline")) else {
        return true;
    };
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let arguments = line.split(|byte| *byte == 0).skip(1);
    let arguments = arguments.map(|argument| OsStr::from_bytes(argument).to_owned());
    matches!(super::parse(arguments), Ok(Command::Run(_)) | Err(_))
}

fn is_program(process: &Path) -> bool {
    let Ok(program) = fs::read_link(process.join("exe")) else {
        return false;
    };
    let Some(name) = program.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    // An upgrade may have replaced the file while it runs.
    name.strip_suffix(" (deleted)").unwrap_or(name) == PROCESS_NAME
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    /// A list of processes: id, name, state and program.
    fn processes(list: &[(u32, &str, char, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (pid, name, state, program) in list {
            let process = directory.path().join(pid.to_string());
            fs::create_dir(&process).unwrap();
            fs::write(
                process.join("stat"),
                format!("{pid} ({name}) {state} 1 1 1"),
            )
            .unwrap();
            std::os::unix::fs::symlink(program, process.join("exe")).unwrap();
        }
        fs::create_dir(directory.path().join("sys")).unwrap();
        directory
    }

    #[test]
    fn the_one_running_server_is_found_by_its_name() {
        let list = processes(&[
            (1, "init", 'S', "/sbin/init"),
            (12, "midge", 'S', "/usr/bin/midge"),
            (13, "midge-exporter", 'S', "/usr/bin/midge-exporter"),
            (14, "midge", 'Z', "none"),
            (99, "midge", 'R', "/usr/bin/midge"),
        ]);
        assert_eq!(resolve(list.path(), 99, None), Ok(vec![12]));
        // Asks a server rather than being one.
        let asking = "/usr/bin/midge\0--healthcheck\0http://h:1\0";
        fs::write(list.path().join("12/cmdline"), asking).unwrap();
        assert_eq!(resolve(list.path(), 99, None), Err(SignalError::NoProcess));
        let serving = "/usr/bin/midge\0-c\0c.conf\0";
        fs::write(list.path().join("12/cmdline"), serving).unwrap();
        assert_eq!(resolve(list.path(), 99, None), Ok(vec![12]));
        let renamed = processes(&[(5, "x) S (y", 'S', "/opt/midge (deleted)")]);
        assert_eq!(resolve(renamed.path(), 99, None), Ok(vec![5]));
    }

    #[test]
    fn none_and_many_are_errors_unless_a_pattern_is_given() {
        let none = processes(&[(1, "init", 'S', "/sbin/init")]);
        assert_eq!(resolve(none.path(), 9, None), Err(SignalError::NoProcess));
        assert_eq!(resolve(none.path(), 9, Some("*")), Ok(vec![]));
        let list = processes(&[
            (12, "midge", 'S', "none"),
            (123, "midge", 'S', "none"),
            (45, "midge", 'S', "none"),
        ]);
        let error = resolve(list.path(), 9, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "multiple midge processes running:\n12\n45\n123"
        );
        assert_eq!(resolve(list.path(), 9, Some("*")), Ok(vec![12, 45, 123]));
        assert_eq!(resolve(list.path(), 9, Some("12*")), Ok(vec![12, 123]));
        assert_eq!(resolve(list.path(), 9, Some("7*")), Ok(vec![]));
        let error = resolve(Path::new("/nowhere"), 9, None);
        assert_eq!(error, Err(SignalError::NoProcessList));
    }

    #[test]
    fn a_target_is_an_id_or_a_file_that_holds_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let name = file.to_str().unwrap();
        assert_eq!(pid_of("123"), Ok(123));
        fs::write(&file, "456\n").unwrap();
        assert_eq!(pid_of(name), Ok(456));
        fs::write(&file, "abc\n").unwrap();
        assert_eq!(pid_of(name).unwrap_err().to_string(), "invalid pid: abc\\n");
        for bad in ["abc", "0", "-1", "99999999999", "/nowhere"] {
            assert_eq!(pid_of(bad), Err(SignalError::InvalidPid(bad.into())));
        }
    }

    #[test]
    fn a_command_reaches_its_process_and_a_dead_one_is_reported() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().to_string();
        let unknown = send_signal("foo", Some(&pid)).unwrap_err();
        assert_eq!(unknown.to_string(), "unknown signal \"foo\"");
        // Not "quit": a shell starts what is in its background deaf to that, and the child inherits it.
        send_signal("reopen", Some(&pid)).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(10));
        let dead = send_signal("reopen", Some(&pid)).unwrap_err();
        assert_eq!(
            dead.to_string(),
            format!("signal \"reopen\" {pid}: no such process")
        );
    }
}
