//! The default values of the configuration.

use super::*;

impl Default for Alerts {
    fn default() -> Self {
        Alerts { stalled: Span::from_secs(600) }
    }
}

pub fn session_timeout() -> Span {
    Span::from_secs(6)
}

impl Default for Sink {
    fn default() -> Self {
        Sink {
            url: None,
            host: None,
            timeout: Span::from_hours(4),
            connect_timeout: Span::from_secs(10),
            tcp_user_timeout: Span::from_secs(600),
            headers: BTreeMap::new(),
            tls: Tls::default(),
            mode: Mode::default(),
            require_outcome: false,
            reject_on: Vec::new(),
            response_bytes: ByteCount::from_kib(64),
        }
    }
}

impl Default for StuckHead {
    fn default() -> Self {
        StuckHead { report_after: Span::from_hours(6), dead_letter_after: None }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts: 5,
            backoff: Span::from_secs(10),
            backoff_max: Span::from_secs(600),
            unknown_backoff: Span::from_secs(30),
            worker_time_budget: Span::from_hours(6),
            not_started_for: Span::from_hours(24),
            interruptions: 20,
            queue: None,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { failures: 20, open: Span::from_secs(60) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { item_bytes: ByteCount::from_mib(16), held_bytes: ByteCount::from_mib(256), held_max: 5 }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Drain { timeout: Span::from_hours(4) }
    }
}
