//! What two servers agree on about the compression of a route.

use std::time::Duration;

use crate::config::options::{Compression, CompressionMode};
use crate::s2::Level;

/// What was agreed on: each side compresses what it sends as it likes, or neither does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Both compress; this side like this.
    Compressed(Level),
    /// One of them does not know of it.
    NotSupported,
    /// One of them does not want to, or neither asked for it.
    Off,
}

impl Agreement {
    /// What this server agrees on with one whose INFO says `other`, over a connection that takes `rtt` to and fro; `None`
    /// if that is nothing that it knows.
    #[must_use]
    pub fn find(own: &Compression, other: Option<&str>, rtt: Duration) -> Option<Self> {
        let takes_part = !matches!(
            own.mode,
            CompressionMode::Off | CompressionMode::NotSupported
        );
        let asked = match other {
            None | Some("" | "not supported") => return Some(Agreement::NotSupported),
            Some(_) if own.mode == CompressionMode::NotSupported => {
                return Some(Agreement::NotSupported);
            }
            Some(_) if !takes_part => return Some(Agreement::Off),
            Some("off") => return Some(Agreement::Off),
            Some("accept") => None,
            Some("s2_auto" | "s2_fast") => Some(Level::Fast),
            Some("s2_uncompressed") => Some(Level::Uncompressed),
            Some("s2_better") => Some(Level::Better),
            Some("s2_best") => Some(Level::Best),
            Some(_) => return None,
        };
        // Whoever accepts does as the other one asks.
        Some(match wanted(own, rtt).or(asked) {
            Some(level) => Agreement::Compressed(level),
            None => Agreement::Off,
        })
    }

    /// How this side compresses, if it does.
    #[must_use]
    pub fn level(self) -> Option<Level> {
        match self {
            Agreement::Compressed(level) => Some(level),
            _ => None,
        }
    }

    /// As monitoring has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Agreement::Compressed(Level::Uncompressed) => "s2_uncompressed",
            Agreement::Compressed(Level::Fast) => "s2_fast",
            Agreement::Compressed(Level::Better) => "s2_better",
            Agreement::Compressed(Level::Best) => "s2_best",
            Agreement::NotSupported => "not supported",
            Agreement::Off => "off",
        }
    }

    /// As INFO has it: who goes by the round-trip time says so, whatever that comes to.
    #[must_use]
    pub fn told(self, own: &Compression) -> &'static str {
        match own.mode {
            CompressionMode::Auto => CompressionMode::Auto.name(),
            _ => self.name(),
        }
    }

    /// Goes over to other settings; false if that takes a new connection.
    pub fn renew(&mut self, own: &Compression, rtt: Duration) -> bool {
        if *self == Agreement::NotSupported || self.name() == own.mode.name() {
            return true;
        }
        match (&self, wanted(own, rtt)) {
            (Agreement::Compressed(_), Some(level)) => {
                *self = Agreement::Compressed(level);
                true
            }
            _ => false,
        }
    }

    /// Takes note of a round-trip time, if the settings go by that.
    pub fn on_rtt(&mut self, own: &Compression, rtt: Duration) {
        let is_compressed = matches!(self, Agreement::Compressed(_));
        if is_compressed && own.mode == CompressionMode::Auto {
            *self = Agreement::Compressed(by_rtt(rtt, &own.rtt_thresholds));
        }
    }
}

/// How a server with these settings compresses of its own accord.
fn wanted(own: &Compression, rtt: Duration) -> Option<Level> {
    match own.mode {
        CompressionMode::Accept | CompressionMode::NotSupported | CompressionMode::Off => None,
        CompressionMode::Auto => Some(by_rtt(rtt, &own.rtt_thresholds)),
        CompressionMode::Fast => Some(Level::Fast),
        CompressionMode::Better => Some(Level::Better),
        CompressionMode::Best => Some(Level::Best),
    }
}

/// The first level whose threshold is not exceeded; above all, the next one, but never beyond those that there are unless
/// there is a threshold for each level below the strongest.
fn by_rtt(rtt: Duration, thresholds: &[Duration]) -> Level {
    const LEVELS: [Level; 4] = [Level::Uncompressed, Level::Fast, Level::Better, Level::Best];
    let above_all = match thresholds.len() {
        3.. => 3,
        count => count.saturating_sub(1),
    };
    let mut all = thresholds.iter();
    let at = all.position(|&it| rtt <= it).unwrap_or(above_all);
    LEVELS.get(at).copied().unwrap_or(Level::Best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(mode: CompressionMode) -> Compression {
        Compression {
            mode,
            ..Compression::default()
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_agreement_is_what_the_reference_server_makes_of_two_modes() {
        use CompressionMode::{Accept, Auto, Best, Fast, NotSupported, Off};
        let others = [
            None,
            Some("not supported"),
            Some("off"),
            Some("accept"),
            Some("s2_auto"),
            Some("s2_uncompressed"),
            Some("s2_best"),
        ];
        let (none, off) = ("not supported", "off");
        let (fast, best, plain) = ("s2_fast", "s2_best", "s2_uncompressed");
        for (mode, expected) in [
            (NotSupported, [none; 7]),
            (Off, [none, none, off, off, off, off, off]),
            (Accept, [none, none, off, off, fast, plain, best]),
            (Fast, [none, none, off, fast, fast, fast, fast]),
            (Best, [none, none, off, best, best, best, best]),
            (Auto, [none, none, off, plain, plain, plain, plain]),
        ] {
            let found = others.map(|other| {
                let found = Agreement::find(&own(mode), other, MS);
                found.expect("a known mode").name()
            });
            assert_eq!(found, expected, "{mode:?}");
        }
        assert_eq!(Agreement::find(&own(Accept), Some("bogus"), MS), None);
        let found = Agreement::find(&own(Off), Some("bogus"), MS);
        assert_eq!(found, Some(Agreement::Off));
    }

    #[test]
    fn the_round_trip_time_chooses_the_level() {
        let level = |rtt: u32, millis: &[u32]| {
            let thresholds: Vec<Duration> = millis.iter().map(|&it| it * MS).collect();
            by_rtt(rtt * MS, &thresholds)
        };
        let usual = [10, 50, 100];
        assert_eq!(level(10, &usual), Level::Uncompressed);
        assert_eq!(level(11, &usual), Level::Fast);
        assert_eq!(level(51, &usual), Level::Better);
        assert_eq!(level(101, &usual), Level::Best);
        assert_eq!(level(1, &[0, 0, 20]), Level::Better);
        assert_eq!(level(30, &[0, 0, 20]), Level::Best);
        assert_eq!(level(30, &[0, 20]), Level::Fast);
        assert_eq!(level(30, &[20]), Level::Uncompressed);
        assert_eq!(level(30, &[0, 0, 0, 20]), Level::Best);
    }

    #[test]
    fn other_settings_take_a_new_connection_where_both_sides_have_to_agree_anew() {
        use CompressionMode::{Accept, Auto, Best, Fast, Off};
        let fast = Agreement::Compressed(Level::Fast);
        for (before, mode, after) in [
            (fast, Fast, Some(fast)),
            (fast, Best, Some(Agreement::Compressed(Level::Best))),
            (fast, Auto, Some(Agreement::Compressed(Level::Uncompressed))),
            (fast, Off, None),
            (fast, Accept, None),
            (Agreement::Off, Fast, None),
            (Agreement::Off, Off, Some(Agreement::Off)),
            (Agreement::Off, Accept, None),
            (Agreement::NotSupported, Fast, Some(Agreement::NotSupported)),
        ] {
            let mut agreement = before;
            let stays = agreement.renew(&own(mode), MS);
            assert_eq!(stays.then_some(agreement), after, "{before:?} to {mode:?}");
        }
        let mut agreement = fast;
        agreement.on_rtt(&own(Fast), 60 * MS);
        assert_eq!(agreement, fast);
        agreement.on_rtt(&own(Auto), 60 * MS);
        assert_eq!(agreement, Agreement::Compressed(Level::Better));
    }
}
