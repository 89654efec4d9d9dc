//! The `midge` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut o = midge::Options::default();
    let a: Vec<String> = std::env::args().collect();
    let mut i = 1;
    while i < a.len() {
        match a[i].as_str() {
            "-a" => o.host = a[i + 1].clone(),
            "-p" => o.port = a[i + 1].parse().unwrap_or(0),
            "--workers" => o.workers = a[i + 1].parse().ok(),
            "--ports_file_dir" => o.ports_file_dir = Some(a[i + 1].clone().into()),
            _ => {}
        }
        i += 2;
    }
    let server = match midge::Server::start(o) {
        Ok(s) => s,
        Err(e) => {
            eprintln!("midge: {e}");
            return ExitCode::FAILURE;
        }
    };
    let mut signals = signal_hook::iterator::Signals::new([2, 15]).unwrap();
    signals.forever().next();
    server.stop();
    ExitCode::SUCCESS
}
