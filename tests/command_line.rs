//! The command line against the reference server's own reading of it, and the programs that it starts.
//!
//! Each line is a check of a configuration with more flags; both servers must take or refuse it alike, save where the
//! table says that midge differs on purpose.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::Signal;

use support::server::{Process, Start};
use support::{Program, ScratchDir, midge, programs, wait_for};

/// How midge and the reference server take a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Both take it.
    Good,
    /// Both refuse it.
    Bad,
    /// Only midge refuses it: the reference server finds out when it starts, or never.
    BadHere,
}

use Verdict::{Bad, BadHere, Good};

/// Flags, parted by blanks; `CERTS` stands for the directory of the tests' certificates.
#[rustfmt::skip]
const LINES: &[(Verdict, &str)] = &[
    (Good, "-a 127.0.0.1"), (Good, "--addr 127.0.0.1"), (Good, "-addr=127.0.0.1"), (Good, "--net=127.0.0.1"),
    (Good, "-p 4223"), (Good, "--port=4223"), (Good, "-port 4223"), (Good, "--p=4223"), (Good, "-p -1"), (Good, "-p 0x1000"), (Good, "-p 0o17"), (Good, "-p 037"), (Good, "-p 4_222"), (Good, "-p +4222"),
    (Bad, "-p abc"), (Bad, "-p 4k"), (Bad, "-p"), (Bad, "-p 99999999999999999999"), (BadHere, "-p 99999"),
    (Good, "-n x"), (Good, "--name x"), (Good, "--server_name=x"),
    (Good, "-P pid"), (Good, "--pid=pid"), (Good, "-m 8222"), (Good, "--http_port 8222"), (Good, "--client_advertise a:1"), (Good, "--ports_file_dir ."),
    (Good, "-l log"), (Good, "--log=log"), (Good, "-T"), (Good, "-T=false"), (Good, "--logtime=0"), (Good, "--logtime_utc"), (Good, "-s=false"), (Good, "--syslog=f"), (Good, "-r udp://127.0.0.1:1"), (Good, "--remote_syslog udp://127.0.0.1:1"),
    (Good, "-D"), (Good, "--debug"), (Good, "-D=0"), (Good, "-V"), (Good, "--trace"), (Good, "-VV"), (Good, "-DV"), (Good, "--DV"), (Good, "-DVV"), (Good, "-DV=false"), (Good, "-D=TRUE"), (Good, "-D=t"),
    (Bad, "-D=maybe"), (Bad, "-T false"), (Bad, "-Dp"), (Bad, "-Dp 1"), (Bad, "-VD"), (Bad, "---p 1"), (Bad, "-="), (Bad, "-foo"), (Bad, "--foo=1"), (Bad, "x"), (Bad, "-"), (Bad, "-- x"), (Good, "--"),
    (Good, "--log_size_limit 100"), (Good, "--max_traced_msg_len 5"), (Bad, "--log_size_limit x"),
    (Good, "--user a --pass b"), (Good, "-user=a -pass=b"), (Good, "--auth t"),
    (Good, "--cluster nats://127.0.0.1:4248"), (Good, "--cluster_listen=nats://127.0.0.1:-1"), (Good, "--cluster nats://a:b@127.0.0.1:4248"), (Good, "--cluster_name C"),
    (BadHere, "--cluster 127.0.0.1:4248"), (BadHere, "--cluster nats://h"), (BadHere, "--cluster nats://a@127.0.0.1:1"),
    (Good, "--cluster nats://127.0.0.1:4248 --routes nats://127.0.0.1:1,nats://127.0.0.1:2"), (BadHere, "--routes nats://127.0.0.1:1"), (BadHere, "--cluster nats://127.0.0.1:1 --routes ::"),
    (Good, "--no_advertise"), (Good, "--no_advertise=false"), (Bad, "--no_advertise true"), (Good, "--cluster_advertise a:1"), (Good, "--connect_retries 5"), (Bad, "--connect_retries"),
    (BadHere, "--tls"), (BadHere, "--tlscert CERTS/server-cert.pem"), (BadHere, "--tlscert nothing --tlskey nothing"), (Good, "--tls=false"),
    (Good, "--profile 0"),
    (Good, "-p 1 -p 2"), (Good, "-c other.conf -c good.conf"),
];

/// Whether a program takes `line`, and what it says.
fn takes(program: &Path, dir: &Path, line: &str) -> (bool, String) {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let line = line.replace("CERTS", certs);
    let mut command = Command::new(program);
    command.args(["-t", "-c", "good.conf"]).current_dir(dir);
    let output = command.args(line.split_whitespace()).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_taken = said.contains(" is valid (");
    if program == midge() {
        assert_eq!(output.status.success(), is_taken, "{line}: {said}");
    }
    (is_taken, said)
}

#[test]
fn both_servers_take_each_line_as_the_table_says() {
    let dir = ScratchDir::new();
    std::fs::write(dir.path().join("good.conf"), "max_payload: 1000\n").expect("it is ours");
    let mut differences = Vec::new();
    for program in [Program::Midge, Program::Reference] {
        let Some(path) = program.path() else { continue };
        for (verdict, line) in LINES {
            let (is_taken, said) = takes(&path, dir.path(), line);
            let is_right = match verdict {
                Good => is_taken,
                Bad => !is_taken,
                BadHere => is_taken == (program == Program::Reference),
            };
            if !is_right {
                let said = said.lines().next_back().unwrap_or_default();
                differences.push(format!("{program} takes {line:?}: {is_taken}: {said}"));
            }
        }
    }
    assert_eq!(differences, [""; 0]);
}

#[test]
fn names_have_no_spaces_wherever_they_come_from() {
    let cluster = ["--cluster", "nats://127.0.0.1:-1", "--cluster_name", "a b"];
    let cases = [
        (&["-n", "a b"][..], "server name cannot contain spaces\n"),
        (&cluster, "cluster name cannot contain spaces\n"),
    ];
    for program in programs() {
        for (args, expected) in cases {
            let args = [&["-a", "127.0.0.1", "-p", "-1"], args].concat();
            let (code, _, said) = outcome(&program, &args, "");
            assert_eq!(code, Some(1), "{args:?}: {said}");
            assert!(said.ends_with(expected), "{args:?}: {said}");
        }
    }
}

#[test]
fn the_errors_of_a_file_are_told_beside_those_of_the_flags() {
    let dir = ScratchDir::new();
    let file = dir.path().join("c.conf");
    std::fs::write(&file, "foo: 1\nmax_pending: 1\n").expect("it is ours");
    let file = file.to_str().expect("a name in UTF-8");
    let args = ["-t", "-c", file, "--tls", "--routes", "nats://127.0.0.1:1"];
    let (code, _, said) = outcome(&midge(), &args, "");
    let expected = format!(
        "midge: {file}:1:0: unknown field \"foo\"\n\
         {file}:2:1: max_payload (1048576) cannot be higher than max_pending (1)\n\
         TLS Server certificate must be present and valid\n\
         solicited routes require cluster capabilities, e.g. --cluster\n"
    );
    assert_eq!((code, said), (Some(1), expected));
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn it_can_be_started_by_way_of_the_loader() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let is_loader = |path: &&str| {
        path.rsplit('/')
            .next()
            .is_some_and(|it| it.starts_with("ld"))
    };
    let mut paths = maps.split_whitespace().filter(|it| it.starts_with('/'));
    let Some(loader) = paths.find(is_loader) else {
        return support::say_left_out("the loader: this program needs none");
    };
    let mut command = Command::new(loader);
    command.arg(midge()).args(["-a", "127.0.0.1", "-p", "-1"]);
    let process = Process::spawn(command).expect("it runs");
    let is_ready = |log: &str| log.contains("Server is ready");
    assert_eq!(process.wait_for_log(is_ready), Ok(()));
}

/// Runs a program to its end: exit status, standard output, standard error.
fn outcome(program: &Path, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A program that does not read ends earlier.
    let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), out, err)
}

#[test]
fn a_running_server_is_told_by_its_id_or_a_file_that_holds_it() {
    let dir = ScratchDir::new();
    let pid_file = dir.path().join("pid");
    let pid_flag = format!("pid_file: {:?}", pid_file.display());
    let midge = midge();
    let tell = |what: &str| outcome(&midge, &["--signal", what], "");
    let nothing = (Some(0), String::new(), String::new());
    let start = || Start::new(&midge).conf(&pid_flag).run().expect("it starts");
    let mut server = start();
    let pid = server.process().id();
    assert_eq!(tell(&format!("reload={pid}")), nothing);
    let reloaded = "[INF] Reloaded server configuration (";
    let logged = server.process().wait_for_log(|log| log.contains(reloaded));
    assert_eq!(logged, Ok(()));
    assert_eq!(tell(&format!("reopen={}", pid_file.display())), nothing);
    let reopened = "[INF] Trapped \"user defined signal 1\" signal";
    let logged = server.process().wait_for_log(|log| log.contains(reopened));
    assert_eq!(logged, Ok(()));
    assert_eq!(tell(&format!("ldm={}", pid_file.display())), nothing);
    assert_eq!(server.process().wait().code(), Some(0));
    for (command, status) in [("quit", Some(0)), ("term", Some(0)), ("stop", None)] {
        let mut server = start();
        let pid = server.process().id();
        assert_eq!(tell(&format!("{command}={pid}")), nothing);
        assert_eq!(server.process().wait().code(), status, "{command}");
    }
    let (code, _, said) = tell("quit=abc");
    assert_eq!((code, &*said), (Some(1), "midge: invalid pid: abc\n"));
    let (code, _, said) = tell("hop=1");
    assert_eq!((code, &*said), (Some(1), "midge: unknown signal \"hop\"\n"));
    let mut server = start();
    let dead = server.process().id();
    server.process().signal(Signal::KILL);
    server.process().wait();
    let (code, _, said) = tell(&format!("quit={dead}"));
    assert!(
        code == Some(1) && said.contains("no such process"),
        "{said}"
    );
}

/// A shell in a world of processes of its own, so that no server of anybody else is seen.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// `None` where the system has no such worlds for us.
    fn start(dir: &Path) -> Option<Shell> {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork"]);
        command.args(["--kill-child", "--mount-proc", "sh"]);
        command.current_dir(dir).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().ok()?;
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut shell = Shell {
            process,
            input,
            output,
        };
        let is_there = shell.run("true").is_some();
        is_there.then_some(shell)
    }

    /// What a command says, and how it ends; `None` if there is no shell.
    fn run(&mut self, command: &str) -> Option<(String, i32)> {
        let line = format!("{{ {command}; }} 2>&1; echo \"= $?\"\n");
        self.input.write_all(line.as_bytes()).ok()?;
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(status) = line.strip_prefix("= ") {
                let status = status.trim().parse().expect("a status");
                return Some((said, status));
            }
            said += &line;
        }
    }

    fn expect(&mut self, command: &str, said: &str, status: i32) {
        assert_eq!(self.run(command), Some((said.into(), status)), "{command}");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // With it, all that it has started.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_one_running_server_is_told_without_its_id() {
    let dir = ScratchDir::new();
    let Some(mut shell) = Shell::start(dir.path()) else {
        return support::say_left_out("a world of processes: unshare has none for us");
    };
    // By this name it is looked for, whatever the build is called. A copy that this process made could be open for writing
    // in a child of another test still, and would not run.
    shell.expect(&format!("cp '{}' midge", midge().display()), "", 0);
    let logged = |name: &str, what: &str| {
        let log = dir.path().join(name);
        let read = || {
            std::fs::read_to_string(&log)
                .ok()
                .filter(|log| log.contains(what))
        };
        wait_for(read).unwrap_or_else(|| panic!("{name} does not have {what}"));
    };
    let start = |name: &str| format!("./midge -a 127.0.0.1 -p -1 -l {name} & echo $! > {name}.pid");
    let none = "midge: no midge processes running\n";
    shell.expect("./midge --signal reopen", none, 1);
    shell.expect(&start("one"), "", 0);
    logged("one", "Server is ready");
    shell.expect("./midge --signal reopen", "", 0);
    logged("one", "[INF] Trapped \"user defined signal 1\" signal");
    // One that asks for the health of a server is none, and has not asked to be ended.
    let asked = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", asked.local_addr().expect("it is bound"));
    shell.expect(&format!("./midge --healthcheck {url} & asks=$!"), "", 0);
    let (mut asking, _) = asked.accept().expect("it asks");
    shell.expect("./midge --signal reload", "", 0);
    shell.expect("./midge --signal 'reload=*'", "", 0);
    logged("one", "[ERR] Failed to reload server configuration: ");
    let well = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let mut head = BufReader::new(&asking).lines();
    while head
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    asking.write_all(well).expect("it is there to be answered");
    drop(asking);
    shell.expect("wait $asks", "", 0);
    shell.expect(&start("other"), "", 0);
    logged("other", "Server is ready");
    let pid = |name: &str| {
        let text = std::fs::read_to_string(dir.path().join(format!("{name}.pid")));
        text.expect("the shell has written it")
    };
    let many = format!(
        "midge: multiple midge processes running:\n{}{}",
        pid("one"),
        pid("other")
    );
    shell.expect("./midge -sl reopen", &many, 1);
    shell.expect(&format!("./midge -sl quit={}", pid("one").trim()), "", 0);
    shell.expect(&format!("wait {}", pid("one").trim()), "", 0);
    // Now it is one again.
    shell.expect("./midge -sl ldm", "", 0);
    shell.expect(&format!("wait {}", pid("other").trim()), "", 0);
    shell.expect("./midge --signal=quit", none, 1);
}

#[test]
fn whoever_reads_the_help_need_not_read_it_all() {
    for flag in ["--help", "--help_config", "--help_tls", "--version"] {
        let mut command = Command::new(midge());
        command
            .arg(flag)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{flag}: {output:?}");
        assert!(output.stderr.is_empty(), "{flag}: {output:?}");
    }
}

#[test]
fn the_status_is_the_same_where_nobody_can_be_told_why() {
    let dir = ScratchDir::new();
    std::fs::write(dir.path().join("good.conf"), "max_payload: 1000\n").expect("it is ours");
    let cases = [
        (&["-t", "-c", "good.conf"][..], 0),
        (&["-t", "-c", "nothing.conf"], 1),
        (&["-c", "nothing.conf"], 1),
        (&["--foo"], 2),
    ];
    for (args, status) in cases {
        let full = std::fs::File::create("/dev/full").expect("Linux has it");
        let mut command = Command::new(midge());
        command.args(args).current_dir(dir.path()).stderr(full);
        let ended = command.status().expect("it runs");
        assert_eq!(ended.code(), Some(status), "{args:?}");
    }
}

#[test]
fn a_terminal_never_shows_a_password_and_is_left_as_it_was() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(env!("CARGO_BIN_EXE_midge"));
    match command.output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => support::say_left_out("a terminal: there is no python3"),
    }
}

#[test]
fn passwords_are_made_and_hashed() {
    let mkpasswd = Path::new(env!("CARGO_BIN_EXE_mkpasswd"));
    let (code, out, _) = outcome(mkpasswd, &["-c", "4"], "");
    assert_eq!(code, Some(0));
    let (pass, hash) = out.split_once('\n').expect("two lines");
    let pass = pass.strip_prefix("pass: ").expect(&out);
    let hash = hash.trim_end().strip_prefix("bcrypt hash: ").expect(&out);
    assert_eq!((pass.len(), hash.len()), (22, 60));
    assert!(bcrypt::verify(pass, hash).expect("a hash"));
    let (code, out, _) = outcome(mkpasswd, &["-p", "-c", "4"], "T0pS3cr3t\nT0pS3cr3t\n");
    let hash = out.trim_end().rsplit(' ').next().expect("a word");
    assert_eq!(code, Some(0));
    assert!(bcrypt::verify("T0pS3cr3t", hash).expect("a hash"), "{out}");
    let (code, out, said) = outcome(mkpasswd, &["-p", "-c", "4"], "one\nother\n");
    assert_eq!((code, &*out), (Some(1), ""));
    assert!(said.contains("passwords do not match"), "{said}");
    let (code, _, said) = outcome(mkpasswd, &["-c", "32"], "");
    assert!(code != Some(0) && said.contains("32"), "{said}");
    let (code, out, _) = outcome(mkpasswd, &["-h"], "");
    assert!(
        code == Some(0) && out.starts_with("Usage: mkpasswd"),
        "{out}"
    );
}
