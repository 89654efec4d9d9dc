//! How an operator runs midge: signals, reloads, lame duck mode, files, the service manager, and what it says when it
//! cannot start.

mod support;

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use support::connection::Connection;
use support::http::get;
use support::server::{Process, Server, Start};
use support::{DEADLINE, ScratchDir, midge, programs, start_midge, wait_for};

/// A client that is served: its PING was answered, so that it hears of changes from now on.
fn informed(server: &Server) -> Connection {
    let mut client = server.client(",\"protocol\":1");
    client.ping();
    client.expect_info();
    client
}

fn expect_log(server: &mut Server, part: &str) {
    let logged = server.process().wait_for_log(|log| log.contains(part));
    assert!(logged.is_ok(), "wanted {part:?} in {logged:?}");
}

/// What it says and how it ends, for a command line that must not lead to a running server.
fn outcome(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(midge());
    command.args(["-a", "127.0.0.1", "-p", "-1"]).args(args);
    let mut process = Process::spawn(command).expect("the program can be run");
    (process.wait().code(), process.log())
}

/// As [`outcome`], with a configuration.
fn outcome_of(conf: &str) -> (Option<i32>, String) {
    let dir = ScratchDir::new();
    let file = dir.path().join("c.conf");
    fs::write(&file, conf).expect("the directory is writable");
    outcome(&["-c", file.to_str().expect("a name in UTF-8")])
}

/// The lines of a log from the first that contains `from`, without what stands before their level.
fn messages<'a>(log: &'a str, from: &str) -> Vec<&'a str> {
    let lines = log.lines().skip_while(|line| !line.contains(from));
    lines
        .filter_map(|line| line.find(" [").and_then(|at| line.get(at + 1..)))
        .collect()
}

// ---- start ----

#[test]
fn the_log_of_a_start_has_the_usual_lines_in_the_usual_order() {
    let mut server = start_midge(
        "server_name: here\nmax_payload: 9MB\nhttp: 127.0.0.1:-1\ncluster {listen: \"127.0.0.1:-1\"}",
    );
    expect_log(&mut server, "Listening for route connections");
    let log = server.process().log();
    let mut rest = log.as_str();
    for part in [
        "[INF] Starting midge",
        "[INF]   Version:  ",
        "[INF]   Name:     here",
        "[INF]   ID:       N",
        "[INF] Using configuration file: ",
        "server.conf (sha256:",
        "[WRN] Maximum payloads over 8.00 MB are generally discouraged",
        "[INF] Starting http monitor on 127.0.0.1:",
        "[INF] Listening for client connections on 127.0.0.1:",
        "[INF] Server is ready",
        "[INF] Cluster name is ",
        "[WRN] Cluster name was dynamically generated, consider setting one",
        "[INF] Listening for route connections on 127.0.0.1:",
    ] {
        let at = rest.find(part);
        assert!(at.is_some(), "wanted {part:?} next in {log}");
        rest = rest.split_at(at.unwrap()).1;
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_heap_gets_our_settings_unless_the_operator_has_some() {
    for (given, ours) in [
        ("", true),
        ("glibc.rtld.nns=3", true),
        ("glibc.malloc.perturb=0", false),
    ] {
        let mut server = Start::new(&midge())
            .variable("GLIBC_TUNABLES", given)
            .run()
            .unwrap();
        let file = format!("/proc/{}/environ", server.process().id());
        let environment = fs::read_to_string(file).unwrap();
        // The loader may have cut the value up, so that its parts look like variables.
        assert!(environment.contains(given), "{environment}");
        let has_ours = environment.contains("glibc.malloc.tcache_count=0");
        assert_eq!(has_ours, ours, "{environment}");
    }
}

#[test]
fn warnings_of_the_configuration_are_logged() {
    const WARNING: &str = "config has no values or is empty";
    let mut server = start_midge("");
    expect_log(&mut server, WARNING);
    server.reload_until("", WARNING).unwrap();
    let log = server.process().log();
    let lines = log.lines().filter(|line| line.contains(WARNING));
    assert!(lines.clone().all(|line| line.contains("[WRN] ")), "{log}");
    assert_eq!(lines.count(), 2, "{log}");
}

#[test]
fn what_ends_the_start_is_no_valid_configuration() {
    let conf = "tls {cert_file: a, key_file: b}";
    let text = "error parsing X509 certificate/key pair: open a: no such file or directory";
    let (code, log) = outcome_of(conf);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(text), "{log}");
    let dir = ScratchDir::new();
    let file = dir.path().join("c.conf");
    fs::write(&file, conf).unwrap();
    let (code, said) = outcome(&["-t", "-c", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(text), "{said}");
}

#[test]
fn a_failure_after_the_log_is_open_goes_to_the_log() {
    let dir = ScratchDir::new();
    let file = dir.path().join("log");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, log) = outcome(&["-l", file.to_str().unwrap(), "-p", &port]);
    assert_eq!((code, log.as_str()), (Some(1), ""));
    let logged = fs::read_to_string(&file).unwrap();
    assert!(
        logged.contains("[FTL] Error listening on port: 127.0.0.1:"),
        "{logged}"
    );
    let (code, log) = outcome(&["-P", "/no/such/dir/pid"]);
    assert_eq!(code, Some(1));
    assert!(
        log.contains("[FTL] Could not write pidfile: open /no/such/dir/pid"),
        "{log}"
    );
}

#[test]
fn a_failure_before_that_goes_to_standard_error() {
    for (code, log) in [
        outcome(&["-l", "/no/such/dir/log"]),
        outcome(&["--tls"]),
        outcome(&["--routes", "nats://127.0.0.1:1"]),
        outcome_of("port: x"),
    ] {
        assert_eq!(code, Some(1), "{log}");
        assert!(log.starts_with("midge: "), "{log}");
    }
}

#[test]
fn a_log_in_json_is_one_object_a_line() {
    let mut server = start_midge("log_format: json\nserver_name: x");
    expect_log(&mut server, "Server is ready");
    for line in server.process().log().lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(object.get("msg").is_some(), "{line}");
    }
}

#[test]
fn clients_are_told_the_advertised_address() {
    let mut server = start_midge("client_advertise: \"example.com:1\"");
    let info = server.connect().expect_info();
    assert_eq!(
        (&info["host"], &info["port"]),
        (&"example.com".into(), &1.into())
    );
    server.reload("client_advertise: other.example").unwrap();
    let info = server.connect().expect_info();
    assert_eq!(info["host"], "other.example");
    assert_eq!(info["port"], server.address().port());
    expect_log(
        &mut server,
        "[INF] Reload: client_advertise = other.example",
    );
}

// ---- signals and files ----

#[test]
fn signals_are_named_and_end_it_with_0() {
    for (signal, name) in [(Signal::INT, "interrupt"), (Signal::TERM, "terminated")] {
        let mut server = start_midge("server_name: x");
        server.process().signal(signal);
        assert_eq!(server.process().wait().code(), Some(0));
        let log = server.process().log();
        let expected = [
            format!("[INF] Trapped \"{name}\" signal"),
            "[INF] Initiating Shutdown...".into(),
            "[INF] Server Exiting..".into(),
        ];
        assert_eq!(messages(&log, "Trapped"), expected);
    }
}

#[test]
fn usr1_opens_the_log_file_again() {
    let dir = ScratchDir::new();
    let (file, moved) = (dir.path().join("log"), dir.path().join("moved"));
    let program = midge();
    let mut server = Start::new(&program)
        .arg("-l")
        .arg(&file)
        .run()
        .expect("it starts");
    fs::rename(&file, &moved).unwrap();
    server.process().signal(Signal::USR1);
    let text = || {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| text.ends_with('\n'))
    };
    let first = wait_for(text).expect("there is a new file");
    assert!(first.contains("[INF] File log re-opened"), "{first}");
    let old = fs::read_to_string(&moved).unwrap();
    assert!(
        old.contains("[INF] Trapped \"user defined signal 1\" signal"),
        "{old}"
    );
}

#[test]
fn usr1_without_a_log_file_is_said_to_do_nothing() {
    let mut server = start_midge("server_name: x");
    server.process().signal(Signal::USR1);
    expect_log(
        &mut server,
        "[INF] File log re-open ignored, not a file logger",
    );
}

#[test]
fn the_service_manager_hears_of_every_step() {
    let dir = ScratchDir::new();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let count = manager.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    // Those before the one that is wanted can only be signs of life.
    let hear = |wanted: &str| {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let message = heard();
            if message.starts_with(wanted) {
                return;
            }
            assert_eq!(message, "WATCHDOG=1", "wanted {wanted}");
            assert!(Instant::now() < deadline, "{wanted} does not come");
        }
    };
    let start = Start::new(&midge()).conf("server_name: x");
    let start = start.variable("NOTIFY_SOCKET", path.as_os_str());
    let mut server = start
        .variable("WATCHDOG_USEC", "100000")
        .run()
        .expect("it starts");
    hear("READY=1");
    hear("WATCHDOG=1");
    server.reload("server_name: x\ndebug: true").unwrap();
    hear("RELOADING=1\nMONOTONIC_USEC=");
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    server.process().signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(server.process().wait().code(), Some(0));
}

// ---- reload ----

#[test]
fn a_reload_needs_a_file() {
    let mut server = Server::start(&midge());
    server.process().signal(Signal::HUP);
    expect_log(
        &mut server,
        "[ERR] Failed to reload server configuration: can only reload config when a file is provided using -c or --config",
    );
}

#[test]
fn limits_change_for_clients_that_are_there() {
    let mut server = start_midge("max_payload: 100");
    let mut client = server.client("");
    client.send(b"SUB a 1\r\nPUB a 9\r\n123456789\r\n");
    client.expect(b"MSG a 1 9\r\n123456789\r\n");
    server
        .reload("max_payload: 8\nping_max: 5\ndebug: true")
        .unwrap();
    client.send(b"PUB a 9\r\n");
    client.expect(b"-ERR 'Maximum Payload Violation'\r\n");
    client.expect_eof();
    assert_eq!(server.connect().expect_info()["max_payload"], 8);
    let log = server.process().log();
    let lines = messages(&log, "Trapped");
    let expected = [
        "[INF] Trapped \"hangup\" signal",
        "[INF] Reloaded: debug = true",
        "[INF] Reloaded: authorization users",
        "[INF] Reloaded: accounts",
        "[INF] Reloaded: ping_max = 5",
        "[INF] Reloaded: max_payload = 8",
    ];
    assert_eq!(lines[..6], expected);
    assert!(
        lines[6].starts_with("[INF] Reloaded server configuration (sha256:"),
        "{log}"
    );
}

#[test]
fn surplus_connections_are_closed_when_the_limit_falls() {
    let mut server = start_midge("max_connections: 5");
    let mut clients: Vec<_> = (0..3).map(|_| server.client("")).collect();
    for client in &mut clients {
        client.ping();
    }
    server.reload("max_connections: 1").unwrap();
    expect_log(
        &mut server,
        "[INF] Closed 2 connections to fall within max_connections",
    );
    let told = b"-ERR 'maximum connections exceeded'\r\n";
    let is_closed = |client: &mut Connection| {
        // Asked only if it has heard nothing: an answer shall not cross a question.
        if client.look(1, support::QUIET).is_empty() {
            client.send(b"PING\r\n");
        }
        client.expect_line() == told
    };
    let closed = clients.iter_mut().map(is_closed).filter(|closed| *closed);
    assert_eq!(closed.count(), 2);
    let mut late = server.connect();
    late.expect_info();
    late.expect(told);
    late.expect_eof();
}

#[test]
fn a_check_has_the_warnings_of_a_start_and_succeeds() {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let files = format!(
        "cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\", ca_file: \"{certs}/ca.pem\""
    );
    let conf = format!(
        "max_payload: 9MB\nping_interval: 10\nmax_connections: 100\ntls {{{files}, verify: true, handshake_first: true}}\n\
         accounts {{A: {{\n  exports: [{{service: x, latency: lat}}]}}}}\n\
         cluster {{listen: \"127.0.0.1:-1\", authorization {{user: a, password: b}}, tls {{{files}, insecure: true}}}}\n"
    );
    let dir = ScratchDir::new();
    let file = dir.path().join("server.conf");
    fs::write(&file, &conf).unwrap();
    let (code, said) = outcome(&["-t", "-c", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let mut server = start_midge(&conf);
    expect_log(&mut server, "Listening for route connections");
    expect_log(&mut server, "DO NOT USE IN PRODUCTION!");
    let log = server.process().log();
    // The same file by another name.
    let plain = |line: &str| {
        line.split_once("server.conf:")
            .map_or(line, |(_, it)| it)
            .to_owned()
    };
    let warned = log.lines().filter_map(|it| it.split_once("[WRN] "));
    let mut warned: Vec<String> = warned.map(|(_, text)| plain(text)).collect();
    let mut said: Vec<String> = said.lines().map(plain).collect();
    assert!(said.pop().is_some_and(|last| last.contains(" is valid (")));
    warned.sort();
    said.sort();
    assert_eq!(said, warned);
    assert!(warned.len() >= 6, "{warned:?}");
    let latency =
        "6:26: latency has no effect: this version of midge has no measures of services yet";
    assert!(said.iter().any(|it| it == latency), "{said:?}");
}

#[test]
fn a_file_that_tls_lacks_is_named_with_the_place_of_its_block() {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs");
    let pair =
        format!("cert_file: \"{certs}/server-cert.pem\", key_file: \"{certs}/server-key.pem\"");
    let missing = "no such file or directory";
    for (block, what) in [
        (
            "cert_file: /no/cert.pem, key_file: /no/key.pem".to_owned(),
            "error parsing X509 certificate/key pair: open /no/cert.pem",
        ),
        (
            format!("cert_file: \"{certs}/server-cert.pem\", key_file: /no/key.pem"),
            "error parsing X509 certificate/key pair: open /no/key.pem",
        ),
        (
            format!("{pair}, ca_file: /no/ca.pem, verify: true"),
            "open /no/ca.pem",
        ),
    ] {
        let dir = ScratchDir::new();
        let file = dir.path().join("c.conf");
        let conf = format!("max_payload: 100\n tls {{{block}}}\n");
        fs::write(&file, conf).unwrap();
        let name = file.to_str().unwrap();
        let wanted = format!("{name}:2:2: {what}: {missing}\n");
        for path in programs() {
            for args in [&["-t", "-c", name][..], &["-c", name]] {
                let mut command = Command::new(&path);
                command.args(["-a", "127.0.0.1", "-p", "-1"]).args(args);
                let mut process = Process::spawn(command).expect("the program can be run");
                let code = process.wait().code();
                let said = process.log();
                assert_eq!(code, Some(1), "{path:?}: {said}");
                assert!(said.contains(&wanted), "{path:?}: {said}");
            }
        }
    }
}

#[test]
fn a_reload_is_refused_whole_with_every_reason() {
    let mut server = start_midge("max_payload: 100\nserver_name: a");
    let failed = "[ERR] Failed to reload server configuration: ";
    let conf = "max_payload: 8\nserver_name: b\nlame_duck_duration: \"1m\"";
    server.reload_until(conf, "LameDuckDuration").unwrap();
    let log = server.process().log();
    for reason in [
        "config reload not supported for ServerName: old=a, new=b",
        "config reload not supported for LameDuckDuration: old=2m0s, new=1m0s",
    ] {
        assert!(log.contains(&format!("{failed}{reason}\n")), "{log}");
    }
    server
        .reload_until("max_payload: 8\nmax_conections: 1", "max_conections")
        .unwrap();
    server
        .reload_until("max_payload: {", "server.conf:")
        .unwrap();
    let (nothing, held) = (server.dir().join("pid"), server.dir().join("held"));
    fs::write(&held, "somebody's").unwrap();
    for pid_file in [&nothing, &held] {
        let pid_file = pid_file.display();
        let conf = format!("server_name: a\nlog_file: /no/such/dir/log\npid_file: \"{pid_file}\"");
        server.reload_until(&conf, "open /no/such/dir/log").unwrap();
    }
    let files = fs::read_dir(server.dir()).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    assert!(files.all(|file| file != nothing && file.extension() != Some("tmp".as_ref())));
    assert_eq!(fs::read(&held).unwrap(), b"somebody's");
    server
        .reload_until(
            "server_name: a\ntls {cert_file: a, key_file: b}",
            "open a: no such file",
        )
        .unwrap();
    assert_eq!(server.connect().expect_info()["max_payload"], 100);
}

#[test]
fn flags_stay_in_force_over_a_reload() {
    let start = Start::new(&midge()).conf("max_payload: 100");
    let start = start
        .arg("-D")
        .arg("-n")
        .arg("flag")
        .arg("--max_traced_msg_len=3");
    let mut server = start.run().expect("it starts");
    server
        .reload("max_payload: 200\ndebug: false\nport: 1")
        .unwrap();
    let info = server.connect().expect_info();
    assert_eq!(
        (&info["server_name"], &info["max_payload"]),
        (&"flag".into(), &200.into())
    );
    expect_log(&mut server, "[DBG] ");
    assert!(!server.process().log().contains("Reloaded: debug"));
}

#[test]
fn levels_change_for_clients_that_are_there() {
    let mut server = start_midge("server_name: x");
    let mut client = server.client("");
    client.ping();
    server.reload("server_name: x\ntrace: true").unwrap();
    client.ping();
    expect_log(&mut server, "<<- [PING]");
}

#[test]
fn a_trace_of_headers_shows_no_payload() {
    let mut server = start_midge("trace_headers: true");
    let mut client = server.client(",\"headers\":true");
    client.send(b"SUB a 1\r\nHPUB a 19 24\r\nNATS/1.0\r\nA: bb\r\n\r\nhello\r\nPUB a 2\r\nhi\r\n");
    client.expect(b"HMSG a 1 19 24\r\nNATS/1.0\r\nA: bb\r\n\r\nhello\r\nMSG a 1 2\r\nhi\r\n");
    client.ping();
    expect_log(&mut server, "->> [PONG]");
    let log = server.process().log();
    let shown = "MSG_PAYLOAD: [\"NATS/1.0\\r\\nA: bb\"]\n";
    assert_eq!(
        (
            log.matches(shown).count(),
            log.matches("MSG_PAYLOAD").count()
        ),
        (2, 2),
        "{log}"
    );
}

#[test]
fn a_log_file_can_be_changed_and_the_old_one_ends_with_the_reload() {
    let dir = ScratchDir::new();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let conf = |file: &Path| format!("log_file: \"{}\"", file.display());
    let mut server = start_midge(&conf(&old));
    fs::write(server.dir().join("server.conf"), conf(&new)).unwrap();
    server.process().signal(Signal::HUP);
    let text = || {
        fs::read_to_string(&new)
            .ok()
            .filter(|text| text.ends_with('\n'))
    };
    let first = wait_for(text).expect("there is a new file");
    assert!(
        first.contains("[INF] Reloaded server configuration (sha256:"),
        "{first}"
    );
    let old = fs::read_to_string(&old).unwrap();
    assert!(
        old.ends_with(&format!("[INF] Reloaded: log_file = {}\n", new.display())),
        "{old}"
    );
}

#[test]
fn pid_and_ports_files_move_with_a_reload_and_go_at_the_end() {
    let dir = ScratchDir::new();
    for name in ["a", "b"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let at = |name: &str| dir.path().join(name);
    let conf = |name: &str| {
        let dir = at(name);
        let dir = dir.display();
        format!("listen: \"127.0.0.1:-1\"\nports_file_dir: \"{dir}\"\npid_file: \"{dir}/pid\"")
    };
    let file = at("c.conf");
    fs::write(&file, conf("a")).unwrap();
    let mut command = Command::new(midge());
    command.arg("-c").arg(&file);
    let mut process = Process::spawn(command).expect("the program can be run");
    let count = |name: &str| fs::read_dir(at(name)).unwrap().count();
    assert_eq!(wait_for(|| (count("a") == 2).then_some(())), Some(()));
    fs::write(&file, conf("b")).unwrap();
    process.signal(Signal::HUP);
    let done = process.wait_for_log(|log| log.contains("Reloaded server configuration"));
    assert_eq!(done, Ok(()));
    // The old process id stays, whoever reads it; the old ports go.
    assert_eq!((count("a"), count("b")), (1, 2));
    let ports = fs::read_dir(at("b")).unwrap().map(|it| it.unwrap().path());
    let ports: Vec<_> = ports.filter(|path| path.extension().is_some()).collect();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&ports[0]).unwrap()).unwrap();
    let url = json["nats"][0]
        .as_str()
        .and_then(|url| url.strip_prefix("nats://"));
    let address: SocketAddr = url.unwrap().parse().unwrap();
    Connection::open(address).unwrap().expect_info();
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!((count("a"), count("b")), (0, 0));
}

#[test]
fn a_pid_file_that_is_not_its_own_stays() {
    let dir = ScratchDir::new();
    let at = |name: &str| dir.path().join(name);
    let start = |name: &str| Start::new(&midge()).arg("-P").arg(at(name)).run();
    let end = |mut server: Server| {
        server.process().signal(Signal::TERM);
        assert_eq!(server.process().wait().code(), Some(0));
    };
    // The next server's, which has taken over.
    let first = start("pid").expect("it starts");
    let mut second = start("pid").expect("it starts");
    let id = second.process().id().to_string();
    end(first);
    assert_eq!(fs::read_to_string(at("pid")).unwrap(), id);
    end(second);
    assert!(!at("pid").exists());
    // What a link leads to.
    symlink("/dev/null", at("device")).unwrap();
    symlink(at("far"), at("link")).unwrap();
    for name in ["device", "link"] {
        let mut server = start(name).expect("it starts");
        let id = server.process().id().to_string();
        let written = fs::read_to_string(at("far"));
        assert!(name == "device" || written.is_ok_and(|text| text == id));
        end(server);
        assert!(fs::symlink_metadata(at(name)).unwrap().is_symlink());
    }
    let made = Command::new("mkfifo").arg(at("pipe")).status();
    assert!(made.is_ok_and(|it| it.success()));
    let refused = start("pipe").err().unwrap_or_default();
    assert!(refused.contains("it is a pipe"), "{refused}");
}

#[test]
fn reloads_under_load_lose_nothing() {
    const COUNT: usize = 20_000;
    const U: &str = r#","user":"u","pass":"p""#;
    // Limits change, other users come and go, and what the user itself may do gets wider and narrower.
    let users = |number: usize| {
        let allow = ["a", ">"][number % 2];
        let u = format!("{{user: u, password: p, permissions: {{subscribe: \"{allow}\"}}}}");
        format!("authorization {{users: [{u}, {{user: v{number}, password: p}}]}}")
    };
    let mut server = start_midge(&format!("max_payload: 1000\n{}", users(0)));
    let mut subscriber = server.client(U);
    subscriber.send(b"SUB a 1\r\n");
    subscriber.ping();
    let mut publisher = server.client(U);
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..COUNT {
                publisher.send(format!("PUB a 8\r\n{n:08}\r\n").as_bytes());
            }
            publisher.ping();
        });
        let reader = scope.spawn(move || {
            for n in 0..COUNT {
                subscriber.expect(format!("MSG a 1 8\r\n{n:08}\r\n").as_bytes());
            }
        });
        let mut reloads = 0;
        while !reader.is_finished() || reloads < 3 {
            reloads += 1;
            let (payload, debug) = (1000 + reloads % 7, reloads % 2 == 0);
            let conf =
                format!("max_payload: {payload}\ndebug: {debug}\nmax_connections: {payload}");
            server
                .reload(&format!("{conf}\n{}", users(reloads)))
                .unwrap();
        }
    });
}

// ---- lame duck ----

#[test]
fn a_lame_duck_without_clients_ends_at_once() {
    let mut server = start_midge("server_name: x");
    server.process().signal(Signal::USR2);
    assert_eq!(server.process().wait().code(), Some(0));
    let log = server.process().log();
    let expected = [
        "[INF] Trapped \"user defined signal 2\" signal",
        "[INF] Entering lame duck mode, stop accepting new clients",
        "[INF] Initiating Shutdown...",
        "[INF] Server Exiting..",
    ];
    assert_eq!(messages(&log, "Trapped"), expected);
}

#[test]
fn a_lame_duck_tells_its_clients_and_closes_them_one_by_one() {
    let mut server = start_midge("lame_duck_duration: 30s\nlame_duck_grace_period: 1s");
    let mut old = server.client("");
    old.send(b"SUB a 1\r\n");
    old.ping();
    let mut new = informed(&server);
    server.process().signal(Signal::USR2);
    assert_eq!(new.expect_info()["ldm"], true);
    assert!(
        Connection::open(server.address()).is_err(),
        "still accepting"
    );
    // None of these hastens it.
    server.process().signal(Signal::TERM);
    expect_log(&mut server, "Trapped \"terminated\" signal");
    server.process().signal(Signal::USR2);
    new.send(b"PUB a 2\r\nhi\r\n");
    new.ping();
    old.expect(b"MSG a 1 2\r\nhi\r\n");
    new.expect_eof();
    old.expect_eof();
    assert_eq!(server.process().wait().code(), Some(0));
    let log = server.process().log();
    assert_eq!(log.matches("Entering lame duck mode").count(), 1, "{log}");
    assert!(log.contains("[INF] Closing existing clients"), "{log}");
}

#[test]
fn int_ends_a_lame_duck_at_once() {
    let mut server = start_midge("lame_duck_duration: \"10m\"\nlame_duck_grace_period: \"9m\"");
    let mut client = informed(&server);
    server.process().signal(Signal::USR2);
    client.expect_info();
    server.process().signal(Signal::INT);
    client.expect_eof();
    assert_eq!(server.process().wait().code(), Some(0));
}

// ---- memory ----

#[test]
fn above_the_memory_limit_the_slowest_consumer_goes() {
    const SIZE: usize = 64 * 1024;
    let mut server = start_midge("memory_limit: 4MB");
    let mut slow = server.client("");
    slow.send(b"SUB a 1\r\n");
    slow.ping();
    let mut publisher = server.client("");
    let message = [
        format!("PUB a {SIZE}\r\n").as_bytes(),
        &vec![b'x'; SIZE],
        b"\r\n",
    ]
    .concat();
    let deadline = Instant::now() + DEADLINE;
    while !server.process().log().contains("Slow Consumer Detected") {
        assert!(Instant::now() < deadline, "nobody was closed");
        publisher.send(&message);
    }
    expect_log(&mut server, "memory_limit of 4194304 Exceeded");
    publisher.ping();
    // There is room again for others.
    server.client("").ping();
}

#[test]
fn above_the_memory_limit_the_longest_unfinished_messages_go() {
    const SIZE: usize = 1_000_000;
    const COUNT: usize = 8;
    let mut server = start_midge("workers: 1\nmemory_limit: 4MB");
    let mut short = server.client("");
    short.send(b"PUB a 5\r\nhel");
    let begun = [
        format!("PUB a {SIZE}\r\n").into_bytes(),
        vec![b'x'; SIZE - 1],
    ]
    .concat();
    let mut crowd: Vec<_> = (0..COUNT).map(|_| server.client("")).collect();
    for client in &mut crowd {
        // Some may be gone before the last has begun.
        let _ = client.stream().write_all(&begun);
    }
    // Four have room.
    let is_given_up = |log: &str| log.matches(" Exceeded: ").count() >= COUNT - 4;
    assert_eq!(server.process().wait_for_log(is_given_up), Ok(()));
    short.send(b"lo\r\n");
    short.ping();
    server.client("").ping();
}

#[test]
fn above_the_memory_limit_whoever_takes_most_goes_first() {
    // Less than half of the limit, however little of it the system takes, so that the other one is longer in any case.
    const QUEUED: usize = 8;
    const UNFINISHED: usize = 20_000_000;
    let mut server = start_midge("workers: 1\nmax_payload: 32MB\nmemory_limit: 16MB");
    let mut slow = server.client("");
    slow.send(b"SUB a 1\r\n");
    slow.ping();
    let mut publisher = server.client("");
    let message = [b"PUB a 1000000\r\n", &[b'x'; 1_000_000][..], b"\r\n"].concat();
    for _ in 0..QUEUED {
        publisher.send(&message);
    }
    publisher.ping();
    let begun = [
        format!("PUB b {UNFINISHED}\r\n").into_bytes(),
        vec![b'x'; UNFINISHED - 1],
    ]
    .concat();
    // It may be gone before that is written.
    let client = server.client("");
    let _ = client.stream().write_all(&begun);
    expect_log(&mut server, " of a message without its end");
    assert!(!server.process().log().contains("Slow Consumer"));
    for _ in 0..QUEUED {
        slow.expect(b"MSG a 1 1000000\r\n");
        slow.expect_bytes(1_000_002);
    }
}

#[test]
fn above_the_memory_limit_nobody_else_comes_in() {
    const SIZE: usize = 1 << 20;
    const COUNT: usize = 8;
    let mut server = start_midge("");
    let payload = vec![b'x'; SIZE];
    // Whoever is slow is given up one after the other, so that the server is above its limit for a while only: this
    // needs a connection that comes before that is over.
    let refused = wait_for(|| {
        server.reload("").unwrap();
        let mut slow: Vec<_> = (0..4).map(|_| server.client("")).collect();
        for slow in &mut slow {
            slow.send(b"SUB a 1\r\n");
            slow.ping();
        }
        let mut publisher = server.client("");
        for _ in 0..COUNT {
            publisher.send(format!("PUB a {SIZE}\r\n").as_bytes());
            publisher.send(&payload);
            publisher.send(b"\r\n");
        }
        publisher.ping();
        server.reload("memory_limit: 100kb").unwrap();
        let mut surplus = server.connect();
        surplus.expect_info();
        surplus.send(b"PING\r\n");
        let told = surplus.look(6, DEADLINE);
        let is_refused = told.starts_with(b"-ERR 'maximum connections exceeded'\r\n");
        is_refused.then_some(())
    });
    assert!(refused.is_some());
    expect_log(&mut server, " - memory limit exceeded, no new connections");
    // There is room again once they have left.
    let is_in = || {
        let mut client = server.client("");
        client.send(b"PING\r\n");
        client.look(6, DEADLINE).starts_with(b"PONG").then_some(())
    };
    assert!(wait_for(is_in).is_some());
}

#[test]
fn a_slow_consumer_may_be_given_another_chance() {
    const SIZE: usize = 64 * 1024;
    const COUNT: usize = 200;
    let conf = "write_deadline: \"200ms\"\nwrite_timeout: retry";
    let mut server = start_midge(conf);
    let mut slow = server.client("");
    slow.send(b"SUB a 1\r\n");
    slow.ping();
    let mut publisher = server.client("");
    for _ in 0..COUNT {
        let payload = "x".repeat(SIZE);
        publisher.send(format!("PUB a {SIZE}\r\n{payload}\r\n").as_bytes());
    }
    let text = " - Slow Consumer Detected: WriteDeadline of 200ms exceeded with ";
    let often = |log: &str| log.matches(text).count() >= 3;
    assert_eq!(server.process().wait_for_log(often), Ok(()));
    for _ in 0..COUNT {
        slow.expect(format!("MSG a 1 {SIZE}\r\n").as_bytes());
        slow.expect_bytes(SIZE + 2);
    }
    slow.ping();
}

#[test]
fn the_server_s_own_messages_are_traced_if_that_is_asked_for() {
    let mut server = start_midge("trace_verbose: true");
    let mut client = server.client("");
    client.send(b"SUB r 1\r\nPUB $SYS.REQ.USER.INFO r 0\r\n\r\n");
    assert!(client.expect_line().starts_with(b"MSG r 1 "));
    expect_log(&mut server, "[TRC] SYSTEM - <<- [PUB r ");
    expect_log(
        &mut server,
        "[TRC] SYSTEM - <<- MSG_PAYLOAD: [\"{\\\"data\\\":",
    );
    server.reload("trace: true").unwrap();
    client.expect_line();
    let before = server.process().log().matches("SYSTEM - ").count();
    client.send(b"PUB $SYS.REQ.USER.INFO r 0\r\n\r\nPING\r\n");
    expect_log(&mut server, "->> [PONG]");
    assert_eq!(server.process().log().matches("SYSTEM - ").count(), before);
}

#[test]
fn without_a_cache_messages_find_their_way_all_the_same() {
    let server = start_midge("disable_sublist_cache: true");
    let mut client = server.client("");
    for sid in 1..=3 {
        client.send(format!("SUB a {sid}\r\nPUB a 1\r\nx\r\nUNSUB {sid}\r\n").as_bytes());
        client.expect(format!("MSG a {sid} 1\r\nx\r\n").as_bytes());
    }
    client.ping();
}

#[test]
fn one_address_gets_so_many_connections_and_no_more() {
    let start = Start::new(&midge()).conf("").arg("-m").arg("-1");
    let mut server = start.run().expect("it starts");
    let mut first = server.client("");
    first.ping();
    server
        .reload("address_limits {max_connections: 2}")
        .unwrap();
    // Its worker has counted it once it answers.
    first.ping();
    let second = server.client("");
    let mut surplus = server.client("");
    surplus.expect(b"-ERR 'maximum connections per address exceeded'\r\n");
    surplus.expect_eof();
    drop(second);
    // Whoever leaves makes room, as soon as the server has seen it.
    let third = wait_for(|| {
        let mut third = server.client("");
        third.send(b"PING\r\n");
        let told = third.look(6, DEADLINE);
        told.starts_with(b"PONG").then_some(third)
    });
    assert!(third.is_some());
    first.ping();
    expect_log(
        &mut server,
        " - maximum connections per address exceeded: 127.0.0.1, 1 refused\n",
    );
    let metrics = get(server.monitor(), "/metrics").body;
    assert!(metrics.contains("address_refusals_total "), "{metrics}");
    server.reload("").unwrap();
    server.client("").ping();
}

#[test]
fn one_address_connects_in_bursts_and_no_faster_than_its_rate() {
    let mut server = start_midge("address_limits {rate: 1, burst: 3}");
    let crowd: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let mut refused = 0;
    for mut connection in crowd {
        connection.expect_info();
        connection.send(b"PING\r\n");
        let told = connection.look(6, DEADLINE);
        if told.starts_with(b"-ERR 'connection rate per address exceeded'\r\n") {
            refused += 1;
        }
    }
    // However slow the machine, 40 connections do not take it half a minute.
    assert!((5..=37).contains(&refused), "{refused} refused");
    let logged = "connection rate per address exceeded: 127.0.0.1, ";
    expect_log(&mut server, logged);
    let log = server.process().log();
    assert!(log.matches(logged).count() < refused, "{log}");
}
