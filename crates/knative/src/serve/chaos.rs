//! Makes faults on purpose, to test a bridge or a worker.

use std::str::FromStr;
use std::time::Duration;

use longhaul_places::units::{Span, UnitError};

/// The kinds of faults, and their rates. A rate is a share of the requests that reach a replica,
/// from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chaos {
    /// Kills the replica's worker within a second after the request began, if it still runs.
    pub kill: f64,
    /// The worker refuses the connection: nothing ran.
    pub refuse: f64,
    /// The worker does its work, but the client's connection is closed without the answer.
    pub reset: f64,
    /// Each cold start takes longer by a random time up to this.
    pub delay: Duration,
}

/// The fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    KillAfter(Duration),
    Refuse,
    Reset,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write for example kill=0.1,refuse=0.05,reset=0.05,delay=5s")]
pub struct Error(String);

impl Chaos {
    pub fn fault(&self) -> Option<Fault> {
        let dice = fastrand::f64();
        let refuse = self.kill + self.refuse;
        if dice < self.kill {
            Some(Fault::KillAfter(Duration::from_millis(fastrand::u64(..1000))))
        } else if dice < refuse {
            Some(Fault::Refuse)
        } else if dice < refuse + self.reset {
            Some(Fault::Reset)
        } else {
            None
        }
    }

    /// Returns the delay that is added to one cold start.
    pub fn delay(&self) -> Duration {
        self.delay.mul_f64(fastrand::f64())
    }
}

impl FromStr for Chaos {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut chaos = Chaos::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| Error(format!("`{part}` has no `=`")))?;
            let field = match name.trim() {
                "kill" => &mut chaos.kill,
                "refuse" => &mut chaos.refuse,
                "reset" => &mut chaos.reset,
                "delay" => {
                    chaos.delay = delay(value.trim())?;
                    continue;
                }
                _ => return Err(Error(format!("the fault `{name}` does not exist"))),
            };
            let rate = value.trim().parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
            *field = rate.ok_or_else(|| Error(format!("`{value}` is not a rate from 0 to 1")))?;
        }
        if chaos.kill + chaos.refuse + chaos.reset > 1.0 {
            return Err(Error("the rates are more than 1 together".into()));
        }
        Ok(chaos)
    }
}

fn delay(text: &str) -> Result<Duration, Error> {
    text.parse().map(Span::get).map_err(|UnitError { reason, help }| Error(format!("{reason}: {help}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_come_as_often_as_they_are_asked_for() {
        let chaos: Chaos = "kill=0.2, refuse=0.3,delay=2s".parse().unwrap();
        let delay = Duration::from_secs(2);
        assert_eq!(chaos, Chaos { kill: 0.2, refuse: 0.3, reset: 0.0, delay });
        let refused = (0..10_000).filter(|_| chaos.fault() == Some(Fault::Refuse)).count();
        assert!((2_500..3_500).contains(&refused), "{refused}");
        assert!(chaos.delay() <= delay);
        for bad in ["kill", "kil=1", "kill=2", "delay=5", "kill=0.6,reset=0.6", ""] {
            assert!(bad.parse::<Chaos>().is_err(), "{bad}");
        }
    }
}
