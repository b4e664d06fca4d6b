//! Converts the result that one replica hands to another: the core's `Handed` to the wire format's
//! `Verdict`, and back.

use std::time::Duration;

use crate::delivery::{Handed, Reason};
use crate::peers::Verdict;

pub(super) fn write(handed: Handed) -> Verdict {
    match handed {
        Handed::Done => Verdict::Done,
        Handed::Retry { attempts, delay } => Verdict::Retry {
            attempts,
            delay_milliseconds: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        },
        Handed::Failed { reason, attempts } => Verdict::Failed { attempts, reason: reason.to_string() },
        Handed::Held { reason, attempts } => Verdict::Held { attempts, reason: reason.to_string() },
    }
}

/// Returns `None` if this version does not know the verdict. The item then runs here.
pub(super) fn read(verdict: Verdict) -> Option<Handed> {
    Some(match verdict {
        Verdict::Done => Handed::Done,
        Verdict::Retry { attempts, delay_milliseconds } => {
            Handed::Retry { attempts, delay: Duration::from_millis(delay_milliseconds) }
        }
        Verdict::Failed { attempts, reason } => Handed::Failed { reason: Reason::parse(&reason)?, attempts },
        Verdict::Held { attempts, reason } => Handed::Held { reason: Reason::parse(&reason)?, attempts },
        Verdict::New => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_is_read_as_it_was_written() {
        let all = [
            Handed::Done,
            Handed::Retry { attempts: 2, delay: Duration::from_millis(1500) },
            Handed::Failed { reason: Reason::Budget, attempts: 3 },
            Handed::Held { reason: Reason::Unknown, attempts: 1 },
        ];
        for handed in all {
            assert_eq!(read(write(handed)), Some(handed));
        }
        assert_eq!(read(Verdict::Failed { attempts: 1, reason: "of another version".to_owned() }), None);
        assert_eq!(read(Verdict::New), None);
    }
}
