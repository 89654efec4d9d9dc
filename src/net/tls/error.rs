//! Why a `tls` block cannot be put to use. The texts are those that operators know.

use std::fmt;

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
