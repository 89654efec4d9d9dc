//! Request and reply while a crowd with wrong passwords knocks.
//!
//! The passwords are hashed by bcrypt at cost 11, a tenth of a second of CPU time each, and more of them come in than
//! the machine could ever compute. None of them is the same twice, so that nothing can be remembered.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::latency::{Exchange, percentile_us};
use crate::process::{Program, Server};
use crate::wire::Transport;
use crate::{Figures, Outcome};

/// Measures latencies without the crowd, and then with it.
pub(crate) fn bcrypt_storm(program: &Program, duration: Duration) -> Outcome<Figures> {
    let conf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("storm.conf");
    fs::write(&conf, CONF)?;
    let server = Server::start(&program.with_conf(&conf), Transport::Plain)?;
    let mut exchange = Exchange::new(&server)?;
    let quiet = exchange.latencies(duration)?;
    let is_over = AtomicBool::new(false);
    let storm = thread::scope(|scope| {
        let crowd = scope.spawn(|| knock(server.address(), &is_over));
        // Until as many wait as the server lets wait, or give up.
        thread::sleep(SETTLING);
        let latencies = exchange.latencies(duration);
        is_over.store(true, Ordering::Relaxed);
        let attempts = crowd.join().map_err(|_| "the crowd panicked")??;
        Outcome::Ok((latencies?, attempts))
    });
    let (latencies, rate) = storm?;
    let (before, with) = (percentile_us(&quiet, 50), percentile_us(&latencies, 50));
    Ok(Figures::from([
        ("quiet_p50_us", before),
        ("quiet_p99_us", percentile_us(&quiet, 99)),
        ("storm_p50_us", with),
        ("storm_p99_us", percentile_us(&latencies, 99)),
        ("storm_rate", rate),
    ]))
}

/// Connects with wrong passwords until it is over; gives how often a second.
fn knock(address: SocketAddr, is_over: &AtomicBool) -> io::Result<f64> {
    let (start, mut attempts) = (Instant::now(), 0_u32);
    let mut waiting = VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        let due = start + attempts * INTERVAL;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut stream = TcpStream::connect(address)?;
        let pass = format!("wrong-{attempts}");
        let connect = format!("CONNECT {{\"user\":\"slow\",\"pass\":\"{pass}\"}}\r\nPING\r\n");
        stream.write_all(connect.as_bytes())?;
        waiting.push_back(stream);
        // Whoever gets no answer leaves after a while.
        if waiting.len() > PATIENCE {
            waiting.pop_front();
        }
        attempts += 1;
    }
    Ok(f64::from(attempts) / start.elapsed().as_secs_f64())
}

/// The crowd's user has a hash; everybody else is let in without credentials.
const CONF: &str = r#"
no_auth_user: bench
authorization {users: [
  {user: bench, password: bench}
  {user: slow, password: "$2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG"}
]}
"#;
/// 200 a second.
const INTERVAL: Duration = Duration::from_millis(5);
/// Attempts that wait at a time: those of three seconds.
const PATIENCE: usize = 600;
const SETTLING: Duration = Duration::from_secs(1);
