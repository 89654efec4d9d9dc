//! The macros that the rest of the crate logs with.

#![allow(
    unused_macros,
    unused_imports,
    reason = "each layer uses the levels it needs"
)]

/// Logs at a level that is always on.
macro_rules! log_always {
    ($level:ident, $logger:expr, $($message:tt)+) => {
        $logger.log($crate::log::Level::$level, format_args!($($message)+))
    };
}

/// Logs at level INF: `info!(logger, "format", arguments)`.
macro_rules! log_info {
    ($($rest:tt)+) => { $crate::log::log_always!(Info, $($rest)+) };
}

/// Logs at level WRN.
macro_rules! log_warn {
    ($($rest:tt)+) => { $crate::log::log_always!(Warn, $($rest)+) };
}

/// Logs at level ERR.
macro_rules! log_error {
    ($($rest:tt)+) => { $crate::log::log_always!(Error, $($rest)+) };
}

/// Logs at level FTL. The caller ends the process.
macro_rules! log_fatal {
    ($($rest:tt)+) => { $crate::log::log_always!(Fatal, $($rest)+) };
}

/// Logs at level DBG; the arguments are not even evaluated where that is off.
macro_rules! log_debug {
    ($logger:expr, $($message:tt)+) => {{
        let logger = &$logger;
        if logger.debug_on() {
            logger.log($crate::log::Level::Debug, format_args!($($message)+));
        }
    }};
}

/// Logs at level TRC; the arguments are not even evaluated where that is off.
macro_rules! log_trace {
    ($logger:expr, $($message:tt)+) => {{
        let logger = &$logger;
        if logger.trace_on() {
            logger.log($crate::log::Level::Trace, format_args!($($message)+));
        }
    }};
}

// Under names of their own first, as `warn` alone would be taken for the attribute.
pub(crate) use {
    log_always, log_debug as debug, log_error as error, log_fatal as fatal, log_info as info,
    log_trace as trace, log_warn as warn,
};
