//! Every default and every ceiling, by name.
//!
//! The defaults are the reference server's, so that a client or an operator who knows that one is at home here; a
//! constant that has no counterpart there says so.

use std::time::Duration;

/// TCP port for clients.
pub const PORT: u16 = 4222;
/// Address on which clients are accepted: every IPv4 interface.
pub const HOST: &str = "0.0.0.0";
/// Bytes of arguments in one control line, from the first non-blank after the verb to the line's end.
pub const MAX_CONTROL_LINE: usize = 4096;
/// Bytes of headers and payload in one message.
pub const MAX_PAYLOAD: usize = 1024 * 1024;
/// A `max_payload` above this is warned about at start.
pub const MAX_PAYLOAD_ADVISED: usize = 8 * 1024 * 1024;
/// Bytes queued for one connection; more makes it a slow consumer.
pub const MAX_PENDING: usize = 64 * 1024 * 1024;
/// Client connections at a time.
pub const MAX_CONNECTIONS: usize = 65536;
/// Time between PINGs to an idle client.
pub const PING_INTERVAL: Duration = Duration::from_secs(120);
/// Unanswered PINGs after which a connection is stale.
pub const PING_MAX: u32 = 2;
/// Time a socket may take nothing before its connection is a slow consumer.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Time a client has for its CONNECT where credentials are needed.
pub const AUTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Time lame duck mode takes in all.
pub const LAME_DUCK_DURATION: Duration = Duration::from_secs(120);
/// Time between the lame duck notice and the first close.
pub const LAME_DUCK_GRACE_PERIOD: Duration = Duration::from_secs(10);
/// Entries in the history of closed connections.
pub const MAX_CLOSED_CLIENTS: usize = 10_000;
/// Worker threads at the most (midge's own).
pub const WORKERS_MAX: usize = 64;

// What follows has no counterpart in the reference server.

/// Bytes that one read takes from a socket, which is also a connection's budget for one turn of the loop.
pub const READ_BYTES: usize = 64 * 1024;
/// Bytes of one buffer in a connection's output queue.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// Messages from this size on are shared between queues, not copied into each.
pub const SHARE_BYTES_MIN: usize = 8 * 1024;
/// Bytes queued in one turn after which they are written before the turn goes on.
pub const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that spare buffers may hold on to while a worker is busy.
pub const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes for another worker after which they are handed over before the turn ends.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes waiting for another worker above which their producers pause.
pub const MAILBOX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes queued for a connection above which its producers pause briefly, to let it catch up.
pub const CROWDED_BYTES: usize = 2 * 1024 * 1024;
/// How briefly.
pub const CROWDED_PAUSE: Duration = Duration::from_millis(5);
/// How long a producer pauses at most, for each read, while a consumer is at three quarters of `max_pending`.
pub const STALL_PAUSE: Duration = Duration::from_secs(1);
/// Time for connected clients to take what is queued for them when the server stops.
pub const FLUSH_AT_STOP: Duration = Duration::from_secs(3);
/// Time without work after which a worker gives spare memory back.
pub const IDLE_TRIM: Duration = Duration::from_secs(1);
/// Time that a peer has to read our last words and close its side.
pub const PARTING: Duration = Duration::from_secs(1);
