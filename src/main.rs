//! The `midge` program.

use std::process::ExitCode;

use midge::cli::{self, Command, Flags};
use midge::config::{self, Loaded, System};
use midge::{Options, Server};
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
        Command::CheckConfig(flags) => check(&flags),
        Command::HealthCheck(_) => {
            Err("--healthcheck: this build of midge has no monitoring".into())
        }
        Command::Run(flags) => run(&flags),
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

/// The options that file and command line make together, the command line having the last word.
fn load(flags: &Flags) -> Result<Loaded, String> {
    if let Some(path) = &flags.config {
        return config::load_with(path, &System, |options| flags.apply(options))
            .map_err(|errors| errors.to_string());
    }
    let mut options = Options::default();
    flags.apply(&mut options);
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

#[expect(
    clippy::print_stderr,
    reason = "the outcome of a check belongs where its errors go"
)]
fn check(flags: &Flags) -> Result<(), String> {
    let loaded = load(flags)?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let file = flags.config.as_deref().unwrap_or_else(|| "".as_ref());
    eprintln!(
        "midge: configuration file {} is valid ({})",
        file.display(),
        loaded.digest
    );
    Ok(())
}

fn run(flags: &Flags) -> Result<(), String> {
    let options = load(flags)?.options;
    // Before anything starts, so that no signal finds the process unprepared.
    let signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]);
    let mut signals = signals.map_err(|error| format!("cannot take signals: {error}"))?;
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
