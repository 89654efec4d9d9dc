//! The `mkpasswd` program: bcrypt hashes for configuration files.

use std::process::ExitCode;

fn main() -> ExitCode {
    midge::mkpasswd::main(std::env::args_os().skip(1))
}
