use super::*;

/// A writer whose contents the test can see, and which can be made to fail.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<(Vec<u8>, bool)>>);

impl Tape {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
    }

    fn fail(&self, fails: bool) {
        self.0.lock().unwrap().1 = fails;
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut tape = self.0.lock().unwrap();
        if tape.1 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        tape.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn bare() -> LogOptions {
    LogOptions {
        time: false,
        ..LogOptions::default()
    }
}

/// The lines without the process id in front.
fn lines(tape: &Tape) -> Vec<String> {
    let prefix = format!("[{}] ", std::process::id());
    tape.text()
        .lines()
        .map(|line| line.strip_prefix(&prefix).unwrap().to_string())
        .collect()
}

#[test]
fn levels_decide_what_is_written() {
    let tape = Tape::default();
    let logger = Logger::to_writer(tape.clone(), &bare());
    info!(logger, "one {}", 1);
    debug!(logger, "{}", unreachable("off"));
    trace!(logger, "{}", unreachable("off"));
    logger.clone().set_levels(true, true);
    assert!(logger.debug_on() && logger.trace_on());
    debug!(logger, "two");
    trace!(&logger, "three");
    logger.set_levels(false, false);
    warn!(logger, "four");
    error!(logger, "five");
    fatal!(logger, "six");
    logger.log(Level::Debug, format_args!("off"));
    assert_eq!(
        lines(&tape),
        [
            "[INF] one 1",
            "[DBG] two",
            "[TRC] three",
            "[WRN] four",
            "[ERR] five",
            "[FTL] six"
        ]
    );
}

fn unreachable(why: &str) -> String {
    panic!("evaluated although the level is {why}")
}

#[test]
fn a_discarding_logger_stays_silent_at_every_level() {
    let logger = Logger::discard();
    logger.set_levels(true, true);
    assert!(!logger.debug_on() && !logger.trace_on());
    logger.log(Level::Error, format_args!("nobody hears this"));
}

#[test]
fn lost_lines_are_owned_up_to_once() {
    let tape = Tape::default();
    let logger = Logger::to_writer(tape.clone(), &bare());
    tape.fail(true);
    info!(logger, "lost");
    info!(logger, "lost too");
    tape.fail(false);
    info!(logger, "back");
    info!(logger, "still here");
    let expected = [
        "[WRN] Log sink works again, 2 lines were lost",
        "[INF] back",
        "[INF] still here",
    ];
    assert_eq!(lines(&tape), expected);
}

#[test]
fn a_message_that_logs_while_it_is_formatted_does_not_deadlock() {
    struct Chatty(Logger);
    impl fmt::Display for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            info!(self.0, "inner");
            f.write_str("outer")
        }
    }
    let tape = Tape::default();
    let logger = Logger::to_writer(tape.clone(), &bare());
    info!(logger, "{}", Chatty(logger.clone()));
    assert_eq!(lines(&tape), ["[INF] inner", "[INF] outer"]);
}

#[test]
fn reconfiguring_changes_levels_and_shape_for_every_clone() {
    let tape = Tape::default();
    let logger = Logger::to_writer(tape.clone(), &bare());
    let clone = logger.clone();
    let json = LogOptions {
        debug: true,
        format: LineFormat::Json,
        ..bare()
    };
    logger.reconfigure(&json).unwrap();
    debug!(clone, "hi");
    let expected = format!(
        "{{\"level\":\"DBG\",\"pid\":{},\"msg\":\"hi\"}}\n",
        std::process::id()
    );
    assert_eq!(tape.text(), expected);
}
