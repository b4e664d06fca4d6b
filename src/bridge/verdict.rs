//! What one replica hands to another, as JSON: the core's `Handed`, in words that replicas of other versions read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::{Handed, Reason};

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
enum Verdict {
    Done,
    Retry { attempts: u32, delay_milliseconds: u64 },
    Failed { attempts: u32, reason: String },
    Held { attempts: u32, reason: String },
}

pub(super) fn write(handed: Handed) -> serde_json::Value {
    let verdict = match handed {
        Handed::Done => Verdict::Done,
        Handed::Retry { attempts, delay } => Verdict::Retry {
            attempts,
            delay_milliseconds: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        },
        Handed::Failed { reason, attempts } => Verdict::Failed { attempts, reason: reason.to_string() },
        Handed::Held { reason, attempts } => Verdict::Held { attempts, reason: reason.to_string() },
    };
    serde_json::to_value(verdict).unwrap_or_default()
}

/// None where the other replica says something that this version does not know: the item then runs here.
pub(super) fn read(json: serde_json::Value) -> Option<Handed> {
    Some(match serde_json::from_value(json).ok()? {
        Verdict::Done => Handed::Done,
        Verdict::Retry { attempts, delay_milliseconds } => {
            Handed::Retry { attempts, delay: Duration::from_millis(delay_milliseconds) }
        }
        Verdict::Failed { attempts, reason } => Handed::Failed { reason: Reason::parse(&reason)?, attempts },
        Verdict::Held { attempts, reason } => Handed::Held { reason: Reason::parse(&reason)?, attempts },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_is_read_as_it_was_meant() {
        let all = [
            Handed::Done,
            Handed::Retry { attempts: 2, delay: Duration::from_millis(1500) },
            Handed::Failed { reason: Reason::Budget, attempts: 3 },
            Handed::Held { reason: Reason::Unknown, attempts: 1 },
        ];
        for handed in all {
            assert_eq!(read(write(handed)), Some(handed));
        }
        assert_eq!(write(Handed::Done), serde_json::json!({"verdict": "done"}));
        assert_eq!(read(serde_json::json!({"verdict": "new"})), None);
    }
}
