//! The table of flags: spellings, values, mistakes, and what overrules what.

use std::path::PathBuf;

use super::*;
use crate::config::options::{CertFiles, Options, RouteUrl, Secret, TlsConfig};

fn parsed(line: &[&str]) -> Result<Command, CliError> {
    parse(line.iter().map(OsString::from))
}

fn flags(line: &[&str]) -> Flags {
    match parsed(line) {
        Ok(Command::Run(flags)) => *flags,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn error(line: &[&str]) -> String {
    let error = parsed(line).unwrap_err();
    error.to_string().replace(" (try `midge --help`)", "")
}

fn routes(urls: &[&str]) -> Vec<RouteUrl> {
    urls.iter()
        .map(|url| RouteUrl::parse(url).unwrap())
        .collect()
}

/// Each flag, under each of its names, and what it does to the flags.
#[test]
fn every_flag_of_the_table_is_understood_under_all_its_names() {
    type Case = (&'static [&'static str], &'static str, fn(&mut Flags));
    let cases: &[Case] = &[
        (&["a", "addr", "net"], "h", |to| to.host = Some("h".into())),
        (&["p", "port"], "16001", |to| {
            to.port = Some(Port::Fixed(16001))
        }),
        (&["n", "name", "server_name"], "x", |to| {
            to.server_name = Some("x".into())
        }),
        (&["workers"], "3", |to| to.workers = Some(3)),
        (&["P", "pid"], "f", |to| to.pid_file = Some("f".into())),
        (&["m", "http_port"], "8222", |to| {
            to.http_port = Some(Port::Fixed(8222))
        }),
        (&["ms", "https_port"], "-1", |to| {
            to.https_port = Some(Port::Any)
        }),
        (&["c", "config"], "f", |to| to.config = Some("f".into())),
        (&["client_advertise"], "h:1", |to| {
            to.client_advertise = Some("h:1".into())
        }),
        (&["ports_file_dir"], "d", |to| {
            to.ports_file_dir = Some("d".into())
        }),
        (&["l", "log"], "f", |to| to.log_file = Some("f".into())),
        (&["r", "remote_syslog"], "udp://h:1", |to| {
            to.remote_syslog = Some("udp://h:1".into())
        }),
        (&["log_size_limit"], "0x10", |to| {
            to.log_size_limit = Some(16)
        }),
        (&["max_traced_msg_len"], "5", |to| {
            to.max_traced_msg_len = Some(5)
        }),
        (&["user"], "u", |to| to.user = Some("u".into())),
        (&["pass"], "-p", |to| to.pass = Some(Secret::new("-p"))),
        (&["auth"], "a=b", |to| to.auth = Some(Secret::new("a=b"))),
        (&["tlscert"], "f", |to| to.tls_cert = Some("f".into())),
        (&["tlskey"], "f", |to| to.tls_key = Some("f".into())),
        (&["tlscacert"], "f", |to| to.tls_ca_cert = Some("f".into())),
        (&["cluster", "cluster_listen"], "nats://:4248", |to| {
            to.cluster = Some(ClusterListen::At {
                host: String::new(),
                port: Port::Fixed(4248),
                credentials: None,
            });
        }),
        (&["cluster_name"], "C", |to| {
            to.cluster_name = Some("C".into())
        }),
        (&["routes"], " nats://a:1 , nats://b:2,", |to| {
            to.routes = Some(routes(&["nats://a:1", "nats://b:2"]));
        }),
        (&["cluster_advertise"], "h:1", |to| {
            to.cluster_advertise = Some("h:1".into())
        }),
        (&["connect_retries"], "7", |to| to.connect_retries = Some(7)),
    ];
    for (names, value, set) in cases {
        let mut expected = Flags::default();
        set(&mut expected);
        for name in *names {
            let (one, two) = (format!("-{name}"), format!("--{name}"));
            assert_eq!(flags(&[&one, value]), expected, "{one} {value}");
            assert_eq!(flags(&[&two, value]), expected, "{two} {value}");
            assert_eq!(
                flags(&[&format!("{one}={value}")]),
                expected,
                "{one}={value}"
            );
            assert_eq!(
                flags(&[&format!("{two}={value}")]),
                expected,
                "{two}={value}"
            );
            assert_eq!(error(&[&one]), format!("flag needs an argument: -{name}"));
        }
    }
}

#[test]
fn every_switch_is_on_alone_and_takes_a_value_only_after_an_equals_sign() {
    type Case = (&'static [&'static str], fn(&mut Flags, bool));
    let cases: &[Case] = &[
        (&["T", "logtime"], |to, on| to.logtime = Some(on)),
        (&["logtime_utc"], |to, on| to.logtime_utc = Some(on)),
        (&["s", "syslog"], |to, on| to.syslog = Some(on)),
        (&["D", "debug"], |to, on| to.debug = Some(on)),
        (&["V", "trace"], |to, on| to.trace = Some(on)),
        (&["VV"], |to, on| {
            (to.trace, to.trace_verbose) = (Some(on), Some(on))
        }),
        (&["DV"], |to, on| {
            (to.debug, to.trace) = (Some(on), Some(on))
        }),
        (&["DVV"], |to, on| {
            (to.debug, to.trace, to.trace_verbose) = (Some(on), Some(on), Some(on))
        }),
        (&["tls"], |to, on| to.tls = Some(on)),
        (&["tlsverify"], |to, on| to.tls_verify = Some(on)),
        (&["no_advertise"], |to, on| to.no_advertise = Some(on)),
    ];
    for (names, set) in cases {
        for name in *names {
            for (suffix, on) in [
                ("", true),
                ("=1", true),
                ("=T", true),
                ("=0", false),
                ("=False", false),
            ] {
                let mut expected = Flags::default();
                set(&mut expected, on);
                assert_eq!(
                    flags(&[&format!("-{name}{suffix}")]),
                    expected,
                    "-{name}{suffix}"
                );
                assert_eq!(
                    flags(&[&format!("--{name}{suffix}")]),
                    expected,
                    "--{name}{suffix}"
                );
            }
            let word = parsed(&[&format!("-{name}"), "false"]);
            assert_eq!(word, Err(CliError::Word("false".into())));
        }
    }
}

#[test]
fn the_table_in_the_documentation_has_no_flag_that_is_missing_here() {
    let known: Vec<&str> = names().map(|(_, name)| name).collect();
    let expected = "a addr net p port n name server_name P pid m http_port ms https_port c config t sl signal \
        client_advertise ports_file_dir l log T logtime logtime_utc s syslog r remote_syslog D debug V trace VV DV DVV \
        log_size_limit max_traced_msg_len user pass auth tls tlsverify tlscert tlskey tlscacert cluster cluster_listen \
        cluster_name routes no_advertise cluster_advertise connect_retries js jetstream sd store_dir profile h help v \
        version help_config help_tls workers healthcheck";
    let mut expected: Vec<&str> = expected.split_whitespace().collect();
    let mut sorted = known.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
}

#[test]
fn the_last_of_repeated_flags_wins_whatever_its_name() {
    assert_eq!(
        flags(&["-p", "1", "--port=2", "-p=3"]).port,
        Some(Port::Fixed(3))
    );
    assert_eq!(flags(&["--port=3", "-p", "1"]).port, Some(Port::Fixed(1)));
    let mixed = flags(&["-DV", "-D=false"]);
    assert_eq!((mixed.debug, mixed.trace), (Some(false), Some(true)));
    let mixed = flags(&["-D=false", "-DV"]);
    assert_eq!((mixed.debug, mixed.trace), (Some(true), Some(true)));
}

#[test]
fn a_bad_flag_is_named_with_its_value_and_limit() {
    let cases: &[(&[&str], &str)] = &[
        (&["-foo"], "flag provided but not defined: -foo"),
        (&["--x"], "flag provided but not defined: -x"),
        (&["-Dp"], "flag provided but not defined: -Dp"),
        (&["-p"], "flag needs an argument: -p"),
        (
            &["--port", "abc"],
            "invalid value \"abc\" for flag -port: must be a whole number",
        ),
        (
            &["-p=1k"],
            "invalid value \"1k\" for flag -p: must be a whole number",
        ),
        (
            &["-p", ""],
            "invalid value \"\" for flag -p: must be a whole number",
        ),
        (
            &["-p", "65536"],
            "invalid value \"65536\" for flag -p: must be from -1 to 65535",
        ),
        (
            &["-p", "-2"],
            "invalid value \"-2\" for flag -p: must be from -1 to 65535",
        ),
        (
            &["-p", "99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -p: must be from -1 to 65535",
        ),
        (
            &["--workers", "0"],
            "invalid value \"0\" for flag -workers: must be from 1 to 64",
        ),
        (
            &["--workers", "65"],
            "invalid value \"65\" for flag -workers: must be from 1 to 64",
        ),
        (
            &["-T=maybe"],
            "invalid boolean value \"maybe\" for -T: must be true or false",
        ),
        (&["---p"], "bad flag syntax: ---p"),
        (&["-="], "bad flag syntax: -="),
        (
            &["--profile", "6060"],
            "flag -profile is not supported: midge has no profiling port",
        ),
        (
            &["-js"],
            "flag -js is not supported: midge has no JetStream",
        ),
        (
            &["-sd", "x"],
            "flag -sd is not supported: midge has no JetStream",
        ),
        (
            &["--cluster", "nats://a:secret@h"],
            "invalid value for flag -cluster: address h: missing port in address",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(error(line), *expected, "{line:?}");
        let error = parsed(line).unwrap_err();
        assert_eq!(error.exit_status(), 2, "{line:?}");
        assert!(
            error.to_string().ends_with(" (try `midge --help`)")
                && !error.to_string().contains('\n')
        );
    }
    assert_eq!(flags(&["-js=false"]), Flags::default());
}

#[test]
fn an_argument_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    assert!(matches!(
        parse([OsString::from_vec(vec![b'-', 0xff])]),
        Err(CliError::Flag(_))
    ));
}

#[test]
fn words_end_the_flags() {
    for line in [&["version"], &["VERSION"], &["-v"], &["--version"]] {
        assert_eq!(parsed(line), Ok(Command::Version));
    }
    for line in [&["help"], &["Help"], &["-h"], &["--help"]] {
        assert_eq!(parsed(line), Ok(Command::Help));
    }
    assert_eq!(
        parsed(&["-p", "1", "version", "-foo"]),
        Ok(Command::Version)
    );
    assert_eq!(parsed(&["--", "help"]), Ok(Command::Help));
    assert_eq!(parsed(&["-D", "--"]).map(|_| ()), Ok(()));
    assert_eq!(parsed(&["-h", "-v"]), Ok(Command::Version));
    assert_eq!(parsed(&["--help_tls"]), Ok(Command::HelpTls));
    assert_eq!(parsed(&["--help_config"]), Ok(Command::HelpConfig));
    for word in ["foo", "-", "a b", ""] {
        let error = parsed(&[word, "-foo"]).unwrap_err();
        assert_eq!(error.to_string(), format!("unrecognized command: {word:?}"));
        assert_eq!(error.exit_status(), 1);
    }
    assert_eq!(parsed(&["--", "-p"]), Err(CliError::Word("-p".into())));
}

#[test]
fn signals_come_before_the_configuration() {
    let signal = |command: &str, target: Option<&str>| {
        Ok(Command::Signal {
            command: command.into(),
            target: target.map(Into::into),
        })
    };
    assert_eq!(parsed(&["-sl", "quit"]), signal("quit", None));
    assert_eq!(
        parsed(&["--signal=reload=/run/midge.pid", "-t"]),
        signal("reload", Some("/run/midge.pid"))
    );
    assert_eq!(parsed(&["-sl", "ldm=*"]), signal("ldm", Some("*")));
    assert_eq!(
        error(&["-sl", "quit=1=2"]),
        "invalid signal parameters: [2]"
    );
    assert_eq!(flags(&["-sl", ""]), Flags::default());
}

#[test]
fn a_check_needs_a_file() {
    let expected = Flags {
        config: Some("f".into()),
        ..Flags::default()
    };
    assert_eq!(
        parsed(&["-t", "-c", "f"]),
        Ok(Command::CheckConfig(Box::new(expected)))
    );
    assert_eq!(
        error(&["-t"]),
        "must specify [-c, --config] option to check configuration file syntax"
    );
    assert_eq!(parsed(&["-t"]).unwrap_err().exit_status(), 1);
    assert_eq!(flags(&["-t=false"]), Flags::default());
}

#[test]
fn a_health_check_may_name_an_address() {
    let check = |url: Option<&str>| {
        Ok(Command::HealthCheck {
            url: url.map(Into::into),
            flags: Box::default(),
        })
    };
    assert_eq!(parsed(&["--healthcheck"]), check(None));
    let flags = Box::new(Flags {
        debug: Some(true),
        ..Flags::default()
    });
    assert_eq!(
        parsed(&["--healthcheck", "-D"]),
        Ok(Command::HealthCheck { url: None, flags })
    );
    let flags = Box::new(Flags {
        tls_ca_cert: Some("f".into()),
        ..Flags::default()
    });
    assert_eq!(
        parsed(&["--healthcheck", "https://h", "--tlscacert", "f"]),
        Ok(Command::HealthCheck {
            url: Some("https://h".into()),
            flags
        })
    );
    assert!(parsed(&["--healthcheck", "http://h", "http://i"]).is_err());
    assert_eq!(
        parsed(&["--healthcheck=http://h:1"]),
        check(Some("http://h:1"))
    );
    assert_eq!(
        parsed(&["-healthcheck", "http://h:1"]),
        check(Some("http://h:1"))
    );
}

#[test]
fn flags_override_the_file_also_with_false_and_absent_ones_do_not() {
    let file = Options {
        host: "file".into(),
        port: 16001,
        server_name: Some("file".into()),
        debug: true,
        trace: true,
        logtime: false,
        max_traced_msg_len: Some(9),
        log_file: Some("file".into()),
        ..Options::default()
    };
    let after = |line: &[&str]| {
        let mut options = file.clone();
        assert_eq!(flags(line).apply(&mut options), Ok(()));
        options
    };
    assert_eq!(after(&[]), file);
    let same = file.clone();
    assert_eq!(
        after(&["-D=false"]),
        Options {
            debug: false,
            ..same.clone()
        }
    );
    assert_eq!(
        after(&["-DV=false"]),
        Options {
            debug: false,
            trace: false,
            ..same.clone()
        }
    );
    assert_eq!(
        after(&["-T"]),
        Options {
            logtime: true,
            ..same.clone()
        }
    );
    assert_eq!(
        after(&["--logtime_utc"]),
        Options {
            logtime_utc: true,
            ..same.clone()
        }
    );
    assert_eq!(
        after(&["-p", "0"]),
        Options {
            port: 0,
            ..same.clone()
        }
    );
    assert_eq!(
        after(&["-p", "-1"]),
        Options {
            port: 0,
            ..same.clone()
        }
    );
    assert_eq!(
        after(&["-a", "::1", "-n", "x"]),
        Options {
            host: "::1".into(),
            server_name: Some("x".into()),
            ..same.clone()
        }
    );
    assert_eq!(
        after(&["-a", "", "-n", "", "-l", ""]),
        Options {
            host: "0.0.0.0".into(),
            server_name: None,
            log_file: None,
            ..same.clone()
        }
    );
    assert_eq!(
        after(&["--max_traced_msg_len", "0"]),
        Options {
            max_traced_msg_len: None,
            ..same.clone()
        }
    );
    let files = after(&[
        "-P",
        "a",
        "--ports_file_dir",
        "b",
        "-l",
        "c",
        "--workers",
        "2",
    ]);
    let path = |name: &str| Some(PathBuf::from(name));
    assert_eq!(
        files,
        Options {
            pid_file: path("a"),
            ports_file_dir: path("b"),
            log_file: path("c"),
            workers: Some(2),
            ..same
        }
    );
}

/// What the flags make of `options`.
fn applied(options: &Options, line: &[&str]) -> Result<Options, String> {
    let mut options = options.clone();
    flags(line).apply(&mut options).map(|()| options)
}

#[test]
fn monitoring_ports_keep_the_hosts_of_the_file() {
    let file = Options {
        http_host: Some("h".into()),
        http_port: Some(1),
        ..Options::default()
    };
    let port = |line: &[&str]| {
        let options = applied(&file, line).unwrap();
        assert_eq!(options.http_host.as_deref(), Some("h"));
        (options.http_port, options.https_port)
    };
    assert_eq!(port(&["-m", "8222"]), (Some(8222), None));
    assert_eq!(port(&["-m", "-1"]), (Some(0), None));
    assert_eq!(port(&["-m", "0", "-ms", "8443"]), (None, Some(8443)));
}

#[test]
fn credentials_and_log_sinks_come_from_flags_and_empty_ones_reset() {
    let options = applied(
        &Options::default(),
        &[
            "--user",
            "u",
            "--pass",
            "p",
            "--auth",
            "t",
            "-s",
            "-r",
            "udp://h:1",
            "--log_size_limit",
            "9",
            "--client_advertise",
            "h:1",
            "-VV",
        ],
    )
    .unwrap();
    assert_eq!(options.user.as_deref(), Some("u"));
    assert_eq!(options.password, Some(Secret::new("p")));
    assert_eq!(options.auth_token, Some(Secret::new("t")));
    assert_eq!(options.remote_syslog.as_deref(), Some("udp://h:1"));
    assert_eq!(options.client_advertise.as_deref(), Some("h:1"));
    assert_eq!(options.log_size_limit, Some(9));
    assert!(options.syslog && options.trace && options.trace_verbose);
    let reset = [
        "--user",
        "",
        "--pass",
        "",
        "--auth",
        "",
        "-s=false",
        "-r",
        "",
        "--log_size_limit",
        "0",
        "--client_advertise",
        "",
        "-VV=false",
    ];
    assert_eq!(applied(&options, &reset), Ok(Options::default()));
}

#[test]
fn tls_flags_replace_the_whole_block_and_need_certificate_and_key() {
    let file = Options {
        tls: Some(TlsConfig {
            verify_and_map: true,
            ..TlsConfig::default()
        }),
        ..Options::default()
    };
    assert_eq!(
        applied(&file, &["--tls=false", "--tlscert", "c"])
            .unwrap()
            .tls,
        None
    );
    let expected = |verify, ca: Option<&str>| {
        Some(TlsConfig {
            certs: vec![CertFiles {
                cert_file: "c".into(),
                key_file: "k".into(),
            }],
            ca_file: ca.map(PathBuf::from),
            verify,
            ..TlsConfig::default()
        })
    };
    let pair = ["--tlscert", "c", "--tlskey", "k"];
    assert_eq!(applied(&file, &pair).unwrap().tls, expected(false, None));
    let verify = [&pair[..], &["--tlsverify", "--tlscacert", "a"]].concat();
    assert_eq!(
        applied(&file, &verify).unwrap().tls,
        expected(true, Some("a"))
    );
    for (line, what) in [
        (&["--tls"][..], "certificate"),
        (&["--tlsverify"], "certificate"),
        (&["--tlscert", "c"], "private key"),
    ] {
        let expected = format!("TLS Server {what} must be present and valid");
        assert_eq!(applied(&file, line), Err(expected));
    }
}

#[test]
fn cluster_flags_replace_address_and_login() {
    let mut file = Options::default();
    file.cluster.port = Some(1);
    file.cluster.user = Some("file".into());
    file.cluster.password = Some(Secret::new("file"));
    file.cluster.routes = routes(&["nats://file:1"]);
    let cluster = |line: &[&str]| applied(&file, line).unwrap().cluster;
    let at = cluster(&["--cluster", "nats://u:p@h:2", "--cluster_name", "C"]);
    assert_eq!((at.host.as_str(), at.port), ("h", Some(2)));
    assert_eq!(at.name.as_deref(), Some("C"));
    assert_eq!(
        (at.user, at.password),
        (Some("u".into()), Some(Secret::new("p")))
    );
    let bare = cluster(&["--cluster", "nats://:-1", "--routes", "nats://a:1"]);
    assert_eq!((bare.host.as_str(), bare.port), ("0.0.0.0", Some(0)));
    assert_eq!((bare.user, bare.password), (None, None));
    assert_eq!(bare.routes, routes(&["nats://a:1"]));
    assert_eq!(cluster(&["--cluster", ""]).port, None);
    assert_eq!(cluster(&["--routes", ""]).routes, []);
    assert!(applied(&Options::default(), &["--routes", "nats://a:1"]).is_err());
    let rest = cluster(&[
        "--no_advertise",
        "--cluster_advertise",
        "x:1",
        "--connect_retries",
        "3",
    ]);
    assert!(rest.no_advertise);
    assert_eq!(
        (rest.advertise.as_deref(), rest.connect_retries),
        (Some("x:1"), 3)
    );
}

#[test]
fn a_bad_route_is_an_error_that_does_not_show_its_password() {
    let text = error(&["--routes", "nats://u:hunter2@h"]);
    assert!(text.starts_with("invalid value for flag -routes"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn the_help_lists_every_flag_that_works() {
    let text = help();
    assert!(text.starts_with("\nUsage: midge [options]\n"));
    for (flag, name) in names() {
        let is_listed = text.lines().any(|line| {
            line.split([' ', ','])
                .any(|word| word == format!("-{name}") || word == format!("--{name}"))
        });
        assert_eq!(
            is_listed,
            !matches!(flag.value, Value::Unsupported { .. }),
            "{name}"
        );
    }
    assert!(text.lines().all(|line| line.len() <= 120));
    assert!(help_tls().contains("TLS_AES_128_GCM_SHA256"));
}

#[test]
fn the_help_on_the_configuration_shows_what_a_reload_can_change() {
    let text = help_config();
    assert!(text.lines().all(|line| line.len() <= 120));
    let line = |of: &str| text.lines().find(|line| line.contains(of)).expect(of);
    assert!(line("payload in a message").starts_with("  * max_payload "));
    assert!(line("port for clients; -1").starts_with("    port "));
    assert!(line("user, username").contains("the single user"));
    assert!(!text.contains("jetstream"), "{text}");
}

#[test]
fn the_version_shows_ours_and_the_protocol_level() {
    assert_eq!(
        version(),
        format!("midge: v{} (protocol 2.15.1)", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn secrets_do_not_appear_in_debug_texts() {
    let text = format!(
        "{:?}",
        flags(&[
            "--pass",
            "hunter2",
            "--auth",
            "hunter2",
            "--cluster",
            "nats://u:hunter2@h:1"
        ])
    );
    assert!(!text.contains("hunter2"), "{text}");
}
