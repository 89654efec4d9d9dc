//! The `midge` program.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use midge::cli::{self, Command, Flags};
use midge::config::{Loaded, System};
use midge::heap;
use midge::log::{Level, Logger};
use midge::notify::Notifier;
use midge::server::{Heartbeat, Setup};
use midge::{Options, Server};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            return end(&error.to_string(), error.exit_status());
        }
    };
    let result = match command {
        Command::Help => say(&cli::help()),
        Command::HelpConfig => say(&cli::help_config()),
        Command::HelpTls => say(cli::help_tls()),
        Command::Version => say(&cli::version()),
        Command::Signal { command, target } => {
            cli::send_signal(&command, target.as_deref()).map_err(|error| error.to_string())
        }
        Command::CheckConfig(flags) => check(&flags),
        Command::HealthCheck { url, flags } => {
            let result = cli::check_health(url.as_deref(), &flags, &System);
            return result.map_or_else(
                |error| end(&error.to_string(), error.exit_status()),
                |()| ExitCode::SUCCESS,
            );
        }
        Command::Run(flags) => {
            heap::settle();
            return run(&flags);
        }
    };
    result.map_or_else(|text| fail(&text), |()| ExitCode::SUCCESS)
}

/// Says on standard error what a program has to say that has no log. What it ends with tells the same to those who do not
/// hear it: a full disk or a closed pipe changes nothing about that.
fn tell(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn end(text: &str, status: u8) -> ExitCode {
    tell(format_args!("midge: {text}"));
    ExitCode::from(status)
}

fn fail(text: &str) -> ExitCode {
    end(text, 1)
}

/// Prints what the program was asked for. Whoever has read enough of it may close the pipe.
fn say(text: &str) -> Result<(), String> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// The options that file and command line make together, the command line having the last word.
fn load(flags: &Flags) -> Result<Loaded, String> {
    if let Some(path) = &flags.config {
        return flags.load(path, &System);
    }
    let mut options = Options::default();
    flags.apply(&mut options)?;
    options.settle();
    let problems: Vec<String> = options
        .check()
        .into_iter()
        .map(|problem| problem.text)
        .collect();
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    Ok(Loaded {
        options,
        digest: String::new(),
        warnings: Vec::new(),
    })
}

/// Says what comes of a check where its errors go.
fn check(flags: &Flags) -> Result<(), String> {
    let loaded = load(flags)?;
    Server::check(&loaded.options).map_err(|error| error.reasons().join("\n"))?;
    for warning in &loaded.warnings {
        tell(format_args!("{warning}"));
    }
    for doubt in Server::doubts(&loaded.options) {
        tell(format_args!("{doubt}"));
    }
    let file = flags.config.as_deref().unwrap_or_else(|| "".as_ref());
    let (file, digest) = (file.display(), &loaded.digest);
    tell(format_args!(
        "midge: configuration file {file} is valid ({digest})"
    ));
    Ok(())
}

fn run(flags: &Flags) -> ExitCode {
    // A file that has come to its limit of size is like a full disk then: lines of the log are lost, and nothing ends. It
    // fails for signals that the system does not know alone.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let loaded = match load(flags) {
        Ok(loaded) => loaded,
        Err(text) => return fail(&text),
    };
    let log = match Server::open_log(&loaded.options) {
        Ok(log) => log,
        Err(error) => return fail(&error.to_string()),
    };
    match serve(flags, loaded, log.clone()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            for reason in text.lines() {
                log.log(Level::Fatal, format_args!("{reason}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs a server until a signal ends it.
fn serve(flags: &Flags, loaded: Loaded, log: Logger) -> Result<(), String> {
    // Before anything starts, so that no signal finds the process unprepared.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]);
    let mut signals = signals.map_err(|error| format!("cannot take signals: {error}"))?;
    let handle = signals.handle();
    let notifier = Arc::new(Notifier::from_env());
    let setup = Setup {
        loaded,
        config_file: flags.config.clone(),
        log: log.clone(),
        heartbeat: heartbeat(&notifier),
    };
    let server = Server::start_with(setup);
    let mut server = server.map_err(|error| error.reasons().join("\n"))?;
    server.set_reloader(|| {
        // It fails for signals that the system does not know alone.
        let _ = signal_hook::low_level::raise(SIGHUP);
    });
    notifier.ready();
    for signal in signals.forever() {
        log.log(
            Level::Info,
            format_args!("Trapped \"{}\" signal", signal_name(signal)),
        );
        match signal {
            SIGHUP => {
                notifier.reloading();
                server.reload_for_askers(|| reload(flags, &server));
                notifier.ready();
            }
            SIGUSR1 => log.reopen(),
            SIGUSR2 => {
                notifier.status("lame duck: closing clients one by one");
                let handle = handle.clone();
                let entered = server.enter_lame_duck(move || handle.close());
                entered.map_err(|error| format!("cannot enter lame duck mode: {error}"))?;
            }
            // It is ending already, more gently than this asks for.
            SIGTERM if server.is_lame_duck() => {}
            _ => break,
        }
    }
    notifier.stopping();
    server.stop();
    Ok(())
}

/// Tells the service manager that the server is alive, if it wants to know.
fn heartbeat(notifier: &Arc<Notifier>) -> Option<Heartbeat> {
    let interval = notifier.watchdog_interval()?;
    let notifier = Arc::clone(notifier);
    Some(Heartbeat {
        interval,
        beat: Box::new(move || notifier.watchdog()),
    })
}

/// Reads the configuration again; the log tells what comes of it. Gives the reasons why not.
fn reload(flags: &Flags, server: &Server) -> Vec<String> {
    let reasons = if flags.config.is_none() {
        let needed = "can only reload config when a file is provided using -c or --config";
        vec![needed.into()]
    } else {
        match load(flags) {
            Ok(loaded) => match server.reload(loaded) {
                Ok(()) => return Vec::new(),
                Err(error) => error.reasons(),
            },
            Err(text) => text.lines().map(str::to_string).collect(),
        }
    };
    for reason in &reasons {
        server.log().log(
            Level::Error,
            format_args!("Failed to reload server configuration: {reason}"),
        );
    }
    reasons
}

/// As the log names a signal.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => "hangup",
        SIGINT => "interrupt",
        SIGTERM => "terminated",
        SIGUSR1 => "user defined signal 1",
        SIGUSR2 => "user defined signal 2",
        _ => "unknown",
    }
}
