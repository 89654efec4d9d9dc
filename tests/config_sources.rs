//! Where a configuration comes from, and what a reload finds there.

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use support::server::Process;
use support::{ScratchDir, midge};

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|it| it.success()));
}

fn started(conf: &Path) -> Process {
    let mut command = Command::new(midge());
    command.args(["-a", "127.0.0.1", "-p", "-1", "-c"]);
    command.arg(conf);
    Process::spawn(command).expect("it runs")
}

#[test]
fn a_pipe_that_gives_nothing_is_no_configuration() {
    let dir = ScratchDir::new();
    let conf = dir.path().join("conf");
    pipe(&conf);
    let nothing = format!("read {}: it is a pipe that gives nothing\n", conf.display());
    let mut process = started(&conf);
    // Whoever opens it waits for the other end.
    drop(File::create(&conf).expect("a pipe of the test's own"));
    assert_eq!(process.wait().code(), Some(1));
    assert_eq!(process.log(), format!("midge: {nothing}"));

    let mut process = started(&conf);
    fs::write(&conf, "authorization { token: t }").expect("a pipe of the test's own");
    let is_ready = |log: &str| log.contains("Server is ready");
    assert_eq!(process.wait_for_log(is_ready), Ok(()));
    process.signal(Signal::HUP);
    drop(File::create(&conf).expect("a pipe of the test's own"));
    let refused = format!("[ERR] Failed to reload server configuration: {nothing}");
    let is_refused = |log: &str| log.contains(&refused);
    assert_eq!(process.wait_for_log(is_refused), Ok(()));
    process.signal(Signal::HUP);
    fs::write(&conf, "authorization { token: u }").expect("a pipe of the test's own");
    let is_reloaded = |log: &str| log.contains("[INF] Reloaded server configuration");
    assert_eq!(process.wait_for_log(is_reloaded), Ok(()));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}
