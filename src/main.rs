//! The `midge` program.

use std::process::ExitCode;

use midge::Options;
use midge::Server;
use midge::cli::{self, Command, Flags};
use midge::config::{self, Loaded, System};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

#[expect(
    clippy::print_stderr,
    reason = "what a program says before it has a log"
)]
fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("midge: {error}");
            return ExitCode::from(error.exit_status());
        }
    };
    let result = match command {
        Command::Help => say(&cli::help()),
        Command::HelpTls => say(cli::help_tls()),
        Command::Version => say(&cli::version()),
        Command::Signal { command, target } => {
            cli::send_signal(&command, target.as_deref()).map_err(|error| error.to_string())
        }
        Command::Run(flags) => run(&flags),
        Command::CheckConfig(_) | Command::HealthCheck(_) => Err("not supported yet".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("midge: {text}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what the program was asked to print")]
fn say(text: &str) -> Result<(), String> {
    println!("{text}");
    Ok(())
}

fn run(flags: &Flags) -> Result<(), String> {
    let options = options(flags)?;
    // Before anything starts, so that no signal finds the process unprepared.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])
        .map_err(|error| format!("cannot take signals: {error}"))?;
    let server = Server::start(options).map_err(|error| error.to_string())?;
    for signal in signals.forever() {
        if signal == SIGUSR1 {
            server.log().reopen();
        } else {
            break;
        }
    }
    server.stop();
    Ok(())
}

/// What the configuration file says, if there is one, and the flags over it.
#[expect(
    clippy::print_stderr,
    reason = "what a program says before it has a log"
)]
fn options(flags: &Flags) -> Result<Options, String> {
    let Some(path) = &flags.config else {
        let mut options = Options::default();
        flags.apply(&mut options);
        options.settle();
        return Ok(options);
    };
    let Loaded {
        options, warnings, ..
    } = config::load_with(path, &System, |options| flags.apply(options))
        .map_err(|errors| errors.to_string())?;
    for warning in warnings {
        eprintln!("midge: {warning}");
    }
    Ok(options)
}
