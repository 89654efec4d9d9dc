//! Why a `tls` block cannot be put to use. The texts are those that operators know.

use std::fmt;

use crate::config::Position;
use crate::config::options::TlsConfig;

/// See the module's documentation.
#[derive(Debug)]
pub enum TlsError {
    /// A certificate or its key.
    Pair {
        /// Which of how many, if there are several.
        place: Option<(usize, usize)>,
        /// What is wrong.
        why: String,
    },
    /// The authorities.
    Authorities(String),
    /// What was asked for does not go together.
    Setup(rustls::Error),
    /// One of these, and where the block stands in the configuration.
    At(Position, Box<TlsError>),
}

impl TlsError {
    /// The same, with the place where the block stands, if that is known.
    pub(super) fn of(self, tls: &TlsConfig) -> Self {
        match &tls.at.0 {
            Some(at) => TlsError::At(at.clone(), Box::new(self)),
            None => self,
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Pair { place, why } => {
                f.write_str("error parsing X509 certificate/key pair")?;
                if let Some((number, count)) = place {
                    write!(f, " {number}/{count}")?;
                }
                write!(f, ": {why}")
            }
            TlsError::Authorities(why) => f.write_str(why),
            TlsError::At(at, error) => write!(f, "{at}: {error}"),
            TlsError::Setup(error) => write!(f, "error parsing tls config: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        TlsError::Setup(error)
    }
}
