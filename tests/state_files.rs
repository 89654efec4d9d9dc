//! The files by which a running server tells others of itself: its process id, its ports.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::Signal;

use support::server::{Process, Start};
use support::{ScratchDir, midge, programs, wait_for};

#[test]
fn a_pid_file_that_waits_for_it_is_written_where_no_other_may_be() {
    let dir = ScratchDir::new();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).expect("the directory is the test's own");
    // Beside a name of this length there is none that is longer, for the administrator either.
    let files = [closed.join("pid"), dir.path().join("p".repeat(255))];
    for file in &files {
        fs::write(file, "a number of long ago").expect("the directory is the test's own");
    }
    let mode = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(&closed, mode(0o555)).expect("it is the test's own");
    for program in programs() {
        for file in &files {
            let mut server = Start::new(&program).arg("-P").arg(file).started();
            let id = server.process().id().to_string();
            assert_eq!(fs::read_to_string(file).expect("a file"), id);
            server.process().signal(Signal::TERM);
            assert_eq!(server.process().wait().code(), Some(0));
            // One that has to stay says nothing; the reference server leaves it as it is.
            let left = fs::read_to_string(file).unwrap_or_default();
            assert_eq!(left, if program == midge() { "" } else { &*id });
            fs::write(file, "").expect("it is there again, if it has gone");
        }
    }
    fs::set_permissions(&closed, mode(0o755)).expect("it is the test's own");
}

#[test]
fn the_ports_file_has_the_same_name_after_an_upgrade() {
    let dir = ScratchDir::new();
    let at = |name: &str| dir.path().join(name);
    // A copy that this process made could be open for writing in a child of another test still, and would not run.
    let copied = Command::new("cp").arg(midge()).arg(at("midge")).status();
    assert!(copied.is_ok_and(|it| it.success()));
    let conf = |ports: &str| {
        let ports = at(ports);
        fs::create_dir(&ports).expect("the directory is the test's own");
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nports_file_dir: {:?}\n",
            ports.display()
        );
        fs::write(at("conf"), text).expect("the directory is the test's own");
    };
    conf("old");
    let mut command = Command::new(at("midge"));
    command.arg("-c").arg(at("conf"));
    let mut process = Process::spawn(command).expect("it runs");
    let has = |line: &'static str| move |log: &str| log.contains(line);
    assert_eq!(process.wait_for_log(has("Server is ready")), Ok(()));
    fs::remove_file(at("midge")).expect("it is there");
    conf("new");
    process.signal(Signal::HUP);
    let reloaded = has("Reloaded server configuration");
    assert_eq!(process.wait_for_log(reloaded), Ok(()));
    let name = format!("midge_{}.ports", process.id());
    assert!(at("new").join(name).exists());
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn the_ports_file_has_addresses_to_connect_to_under_the_service_manager() {
    let dir = ScratchDir::new();
    // As `ProcSubset=pid` of the unit in configs/ has it.
    let script = "mount -t proc -o subset=pid proc /proc && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "sh", "-c", script, "sh"]);
    command.arg(midge()).args(["-a", "0.0.0.0", "-p", "-1"]);
    command.arg("--ports_file_dir").arg(dir.path());
    let Ok(mut process) = Process::spawn(command) else {
        return support::say_left_out("a process of its own world: there is no unshare");
    };
    let ports = || {
        let mut files = fs::read_dir(dir.path()).ok()?.flatten();
        let file = files.find(|it| it.path().extension().is_some_and(|it| it == "ports"))?;
        Some(fs::read_to_string(file.path()).expect("text"))
    };
    let found = wait_for(|| match process.ended() {
        Some(_) => Some(None),
        None => ports().map(Some),
    });
    let Some(ports) = found.expect("it starts in time") else {
        return support::say_left_out("a /proc of processes alone: the system mounts none for us");
    };
    assert!(!ports.contains("0.0.0.0"), "{ports}");
    assert!(ports.contains("nats://127.0.0.1:"), "{ports}");
}
