//! Levels, lines and sinks, as a reader of the log sees them.

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
        "[WRN] Log sink works again, lines lost meanwhile: 2",
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

fn file_options(path: &std::path::Path) -> LogOptions {
    LogOptions {
        file: Some(path.to_path_buf()),
        ..bare()
    }
}

fn read(path: &std::path::Path) -> Vec<String> {
    let prefix = format!("[{}] ", std::process::id());
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.strip_prefix(&prefix).unwrap_or(line).to_string())
        .collect()
}

/// The rotated files, oldest first.
fn backups(directory: &std::path::Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.retain(|name| name.to_string_lossy().contains("log.2"));
    names.sort();
    names
}

#[test]
fn a_file_is_appended_to_and_others_cannot_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    info!(Logger::new(&file_options(&path)).unwrap(), "one");
    info!(Logger::new(&file_options(&path)).unwrap(), "two");
    assert_eq!(read(&path), ["[INF] one", "[INF] two"]);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
}

#[test]
fn a_file_over_its_limit_is_rotated_and_only_so_many_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::fs::write(directory.path().join("log.2.precious"), "not ours").unwrap();
    let options = LogOptions {
        file_bytes_max: 300,
        files_max: 3,
        ..file_options(&path)
    };
    let logger = Logger::new(&options).unwrap();
    let line = "x".repeat(200);
    for _ in 0..8 {
        info!(logger, "{line}");
    }
    let kept = backups(directory.path());
    assert_eq!(
        kept.len(),
        3,
        "two backups, and the file that only looks like one: {kept:?}"
    );
    let live = read(&path);
    let newest = kept
        .iter()
        .rev()
        .find(|name| !name.ends_with("log.2.precious"))
        .unwrap();
    let expected = format!(
        "[INF] Rotated log, backup saved as \"{}\"",
        newest.display()
    );
    assert_eq!(live.first().unwrap(), &expected);
    assert!(
        live.get(1).unwrap().starts_with("[INF] Purged log file \""),
        "{live:?}"
    );
}

#[test]
fn what_was_just_put_aside_is_kept_though_the_clock_was_set_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let ahead = directory.path().join("log.2999.01.01.00.00.00.000000000");
    std::fs::write(&ahead, "of yesterday").unwrap();
    let options = LogOptions {
        file_bytes_max: 300,
        files_max: 2,
        ..file_options(&path)
    };
    let logger = Logger::new(&options).unwrap();
    let line = "x".repeat(400);
    info!(logger, "{line}");
    let kept = backups(directory.path());
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(read(&kept[0]), [format!("[INF] {line}")]);
}

#[test]
fn a_file_that_is_over_its_limit_at_start_is_rotated_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::fs::write(&path, "old\n".repeat(100)).unwrap();
    let logger = Logger::new(&LogOptions {
        file_bytes_max: 300,
        ..file_options(&path)
    })
    .unwrap();
    info!(logger, "new");
    let kept = backups(directory.path());
    assert_eq!(
        read(kept.first().unwrap()).last().unwrap(),
        "[INF] Rotating logfile..."
    );
    assert_eq!(read(&path).get(1).unwrap(), "[INF] new");
}

#[test]
fn where_rotation_fails_lines_go_on_into_the_open_file() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("logs");
    std::fs::create_dir(&folder).unwrap();
    let (path, moved) = (folder.join("log"), directory.path().join("moved"));
    let logger = Logger::new(&LogOptions {
        file_bytes_max: 60,
        ..file_options(&path)
    })
    .unwrap();
    info!(logger, "first");
    std::fs::rename(&path, &moved).unwrap();
    std::fs::remove_dir(&folder).unwrap();
    for _ in 0..4 {
        info!(logger, "a line of some length, so that the limit is passed");
    }
    let lines = read(&moved);
    let failed = "[ERR] Unable to rotate the log file: no such file or directory";
    assert!(lines.iter().any(|line| line == failed), "{lines:?}");
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("some length"))
            .count(),
        4
    );
}

#[test]
fn a_file_that_is_gone_when_it_is_to_be_rotated_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let logger = Logger::new(&LogOptions {
        file_bytes_max: 200,
        ..file_options(&path)
    })
    .unwrap();
    std::fs::remove_file(&path).unwrap();
    info!(logger, "{}", "x".repeat(200));
    info!(logger, "on");
    let gone = "[WRN] The log file was gone: a new one begins";
    assert_eq!(read(&path), [gone, "[INF] on"]);
}

#[test]
fn reopening_follows_the_path_to_a_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let logger = Logger::new(&file_options(&path)).unwrap();
    info!(logger, "one");
    std::fs::rename(&path, directory.path().join("log.1")).unwrap();
    info!(logger, "still the old file");
    logger.reopen();
    info!(logger, "two");
    assert_eq!(read(&path), ["[INF] File log re-opened", "[INF] two"]);

    let tape = Tape::default();
    Logger::to_writer(tape.clone(), &bare()).reopen();
    assert_eq!(
        lines(&tape),
        ["[INF] File log re-open ignored, not a file logger"]
    );
}

#[test]
fn a_full_disk_loses_lines_and_nothing_else() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let logger = Logger::new(&file_options(std::path::Path::new("/dev/full"))).unwrap();
    info!(logger, "lost");
    logger.reconfigure(&file_options(&path)).unwrap();
    info!(logger, "found");
    assert_eq!(
        read(&path),
        [
            "[WRN] Log sink works again, lines lost meanwhile: 1",
            "[INF] found"
        ]
    );
}

#[test]
fn a_sink_that_cannot_be_opened_leaves_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let logger = Logger::new(&file_options(&path)).unwrap();
    let bad = directory.path().join("missing/log");
    let error = logger.reconfigure(&file_options(&bad)).unwrap_err();
    let expected = format!(
        "error opening file: open {}: no such file or directory",
        bad.display()
    );
    assert_eq!(error.to_string(), expected);
    info!(logger, "still here");
    assert_eq!(read(&path), ["[INF] still here"]);
}

#[test]
fn a_sink_that_stays_need_not_be_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (here, moved) = (
        directory.path().join("here"),
        directory.path().join("moved"),
    );
    std::fs::create_dir(&here).unwrap();
    let mut options = file_options(&here.join("log"));
    let logger = Logger::new(&options).unwrap();
    std::fs::rename(&here, &moved).unwrap();
    options.debug = true;
    logger.reconfigure(&options).unwrap();
    debug!(logger, "there all the same");
    assert_eq!(read(&moved.join("log")), ["[DBG] there all the same"]);
    // Once there is a way again, it is taken.
    std::fs::create_dir(&here).unwrap();
    options.trace = true;
    logger.reconfigure(&options).unwrap();
    trace!(logger, "back");
    assert_eq!(read(&here.join("log")), ["[TRC] back"]);
}
