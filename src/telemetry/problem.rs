//! Lasting problems of a pipeline: the obstacle, its start time, and how to help.
//!
//! [`Register`] remembers them and decides when a log line is due. A new problem is logged at once,
//! repeated at growing intervals while it lasts, and logged once more when it is solved. A problem
//! that comes and goes keeps its interval, so that it cannot flood the log.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The time from one log line about an open problem to the next.
const INTERVALS: [Duration; 5] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(150),
    Duration::from_secs(300),
];

/// A solved problem is remembered for this long. If it comes back by then, it continues with its
/// interval.
const MEMORY: Duration = Duration::from_secs(600);

/// The most problems that one pipeline remembers, solved ones included. A further problem replaces
/// a solved one; if none is solved, it is dropped.
const PROBLEMS_MAX: usize = 256;

/// Characters that are kept of a text from outside.
const TEXT_MAX: usize = 1024;

/// A problem that lasts until somebody or something solves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// The affected object, such as a queue, a topic or an address. Together with `kind` it names
    /// the problem.
    pub subject: String,
    /// The fault in lower case, with the received answer.
    pub text: String,
    /// The advice to a person.
    pub help: String,
}

/// The class of a problem. The names are API: `/readyz`, the metric `longhaul_problems` and log
/// lines use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// The source queue or topic does not exist.
    SourceMissing,
    /// The broker refuses access to the source.
    SourceRefused,
    /// No connection to the broker.
    SourceUnreachable,
    /// The queue or topic for dead letters, replies or retries does not exist.
    TargetMissing,
    /// A dead letter, reply or retry cannot be written.
    TargetUnwritable,
    /// A record or message that cannot be decoded stops its partition or queue.
    Undecodable,
    /// The breaker is open: nothing new is sent to the service.
    BreakerOpen,
    /// As many items as `limits.held_max` allows are held.
    HeldFull,
    /// Items wait, and none of them makes progress.
    Stalled,
    /// The broker refuses to store progress.
    CommitRefused,
    /// The consumer group does not complete a join.
    GroupNotJoined,
    /// Partitions have no committed offset, and wait for a person's decision where they begin.
    OffsetsLost,
    /// The configuration must be changed.
    Configuration,
    /// A part of the process has stopped working.
    Wedged,
}

/// An open problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub problem: Problem,
    pub since: SystemTime,
}

/// The log line that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    New(Open),
    Lasts(Open),
    Solved(Open),
}

/// All problems of one pipeline.
#[derive(Debug, Default)]
pub(super) struct Register {
    entries: BTreeMap<(ProblemKind, String), Entry>,
}

#[derive(Debug)]
struct Entry {
    open: Open,
    /// The time at which it was solved; `None` while it lasts.
    solved: Option<Instant>,
    /// The time of the last log line about it.
    told: Instant,
    /// Whether a line was written since it opened last.
    is_told: bool,
    /// The number of lines written, as an index into [`INTERVALS`].
    step: usize,
}

impl Register {
    pub fn raise(&mut self, problem: Problem, now: Instant, wall: SystemTime) -> Option<Line> {
        let problem = problem.shortened();
        let key = (problem.kind, problem.subject.clone());
        if let Some(entry) = self.entries.get_mut(&key) {
            let was_open = entry.solved.take().is_none();
            entry.open.problem = problem;
            if was_open {
                return None;
            }
            entry.open.since = wall;
            entry.is_told = false;
            return entry.tell_if_due(now);
        }
        if self.entries.len() >= PROBLEMS_MAX {
            self.drop_oldest_solved()?;
        }
        let open = Open { problem, since: wall };
        let line = Line::New(open.clone());
        self.entries.insert(key, Entry { open, solved: None, told: now, is_told: true, step: 0 });
        Some(line)
    }

    pub fn clear(&mut self, kind: ProblemKind, subject: &str, now: Instant) -> Option<Line> {
        let entry = self.entries.get_mut(&(kind, shorten(subject)))?;
        if entry.solved.is_some() {
            return None;
        }
        entry.solved = Some(now);
        std::mem::take(&mut entry.is_told).then(|| Line::Solved(entry.open.clone()))
    }

    /// Returns the lines that are due by now. Forgets problems that were solved long ago.
    pub fn due(&mut self, now: Instant) -> Vec<Line> {
        self.entries.retain(|_, entry| entry.solved.is_none_or(|solved| now - solved < MEMORY));
        let open = self.entries.values_mut().filter(|entry| entry.solved.is_none());
        open.filter_map(|entry| entry.tell_if_due(now)).collect()
    }

    pub fn open(&self) -> impl Iterator<Item = &Open> {
        self.entries.values().filter(|entry| entry.solved.is_none()).map(|entry| &entry.open)
    }

    /// Drops the oldest solved problem; returns `None` if all are open.
    fn drop_oldest_solved(&mut self) -> Option<()> {
        let solved = self.entries.iter().filter_map(|(key, entry)| Some((entry.solved?, key)));
        let key = solved.min().map(|(_, key)| key.clone())?;
        self.entries.remove(&key).map(drop)
    }
}

impl Entry {
    fn tell_if_due(&mut self, now: Instant) -> Option<Line> {
        if now - self.told < INTERVALS[self.step] {
            return None;
        }
        self.told = now;
        self.step = (self.step + 1).min(INTERVALS.len() - 1);
        let open = self.open.clone();
        Some(if std::mem::replace(&mut self.is_told, true) { Line::Lasts(open) } else { Line::New(open) })
    }
}

impl Problem {
    fn shortened(self) -> Self {
        Problem {
            kind: self.kind,
            subject: shorten(&self.subject),
            text: shorten(&self.text),
            help: shorten(&self.help),
        }
    }
}

impl ProblemKind {
    pub const ALL: [ProblemKind; 14] = [
        ProblemKind::SourceMissing,
        ProblemKind::SourceRefused,
        ProblemKind::SourceUnreachable,
        ProblemKind::TargetMissing,
        ProblemKind::TargetUnwritable,
        ProblemKind::Undecodable,
        ProblemKind::BreakerOpen,
        ProblemKind::HeldFull,
        ProblemKind::Stalled,
        ProblemKind::CommitRefused,
        ProblemKind::GroupNotJoined,
        ProblemKind::OffsetsLost,
        ProblemKind::Configuration,
        ProblemKind::Wedged,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ProblemKind::SourceMissing => "source-missing",
            ProblemKind::SourceRefused => "source-refused",
            ProblemKind::SourceUnreachable => "source-unreachable",
            ProblemKind::TargetMissing => "target-missing",
            ProblemKind::TargetUnwritable => "target-unwritable",
            ProblemKind::Undecodable => "undecodable",
            ProblemKind::BreakerOpen => "breaker-open",
            ProblemKind::HeldFull => "held-full",
            ProblemKind::Stalled => "stalled",
            ProblemKind::CommitRefused => "commit-refused",
            ProblemKind::GroupNotJoined => "group-not-joined",
            ProblemKind::OffsetsLost => "offsets-lost",
            ProblemKind::Configuration => "configuration",
            ProblemKind::Wedged => "wedged",
        }
    }

    /// Whether the source reports it. Such a problem tells more than "not connected".
    pub(super) fn is_of_source(self) -> bool {
        use ProblemKind::{GroupNotJoined, SourceMissing, SourceRefused, SourceUnreachable};
        matches!(self, SourceMissing | SourceRefused | SourceUnreachable | GroupNotJoined)
    }

    /// Whether it may end without help.
    fn may_pass(self) -> bool {
        use ProblemKind::{BreakerOpen, GroupNotJoined, SourceUnreachable, Stalled};
        matches!(self, SourceUnreachable | BreakerOpen | Stalled | GroupNotJoined)
    }
}

impl Line {
    /// Writes the line: as an error if a person must act, as a warning if the problem may pass.
    pub fn write(&self, pipeline: &str) {
        let (Line::New(open) | Line::Lasts(open) | Line::Solved(open)) = self;
        let Open { problem: Problem { kind, subject, text, help }, since } = open;
        let (may_pass, kind, since) = (kind.may_pass(), kind.as_str(), timestamp(*since));
        // A macro, since a message must be a literal.
        macro_rules! tell {
            ($message:literal) => {
                if may_pass {
                    tracing::warn!(pipeline, kind, subject, since, problem = text, help, $message);
                } else {
                    tracing::error!(pipeline, kind, subject, since, problem = text, help, $message);
                }
            };
        }
        match self {
            Line::New(_) => tell!("The pipeline has a problem"),
            Line::Lasts(_) => tell!("The problem lasts"),
            Line::Solved(_) => tracing::info!(pipeline, kind, subject, since, "The problem is solved"),
        }
    }
}

/// RFC 3339, in whole seconds.
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or_default().to_string()
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(subject: &str, text: &str) -> Problem {
        Problem {
            kind: ProblemKind::SourceMissing,
            subject: subject.to_owned(),
            text: text.to_owned(),
            help: "create it".to_owned(),
        }
    }

    #[test]
    fn a_lasting_problem_is_repeated_at_growing_intervals_of_at_most_five_minutes() {
        let (mut register, start) = (Register::default(), Instant::now());
        let first = register.raise(problem("q", "no queue q"), start, SystemTime::UNIX_EPOCH);
        assert!(matches!(first, Some(Line::New(_))));
        let mut lines = Vec::new();
        for second in 1..=3600 {
            // The source reports the problem again with every attempt.
            let now = start + Duration::from_secs(second);
            assert_eq!(register.raise(problem("q", "still no queue q"), now, SystemTime::now()), None);
            lines.extend(register.due(now).into_iter().map(|line| (second, line)));
        }
        let times: Vec<u64> = lines.iter().map(|(second, _)| *second).collect();
        assert_eq!(times[..5], [10, 40, 100, 250, 550]);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 300), "{times:?}");
        for (_, line) in lines {
            let Line::Lasts(open) = line else { panic!("{line:?}") };
            assert_eq!(
                (open.since, open.problem.text.as_str()),
                (SystemTime::UNIX_EPOCH, "still no queue q")
            );
        }
    }

    #[test]
    fn a_solved_problem_is_told_once_and_one_that_comes_and_goes_does_not_flood() {
        let (mut register, start) = (Register::default(), Instant::now());
        let mut lines = 0;
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            lines += usize::from(register.raise(problem("q", "gone"), now, SystemTime::now()).is_some());
            lines += register.due(now).len();
            let kind = ProblemKind::SourceMissing;
            lines += usize::from(register.clear(kind, "q", now + Duration::from_millis(500)).is_some());
            assert_eq!(register.clear(kind, "q", now + Duration::from_millis(600)), None);
        }
        assert!((6..=14).contains(&lines), "{lines} lines in ten minutes");
        assert_eq!(register.open().count(), 0);
    }

    #[test]
    fn the_number_and_the_size_of_problems_are_bounded() {
        let (mut register, now) = (Register::default(), Instant::now());
        for number in 0..1000 {
            register.raise(problem(&format!("q{number}"), &"ä".repeat(5000)), now, SystemTime::now());
        }
        assert_eq!(register.open().count(), PROBLEMS_MAX);
        assert!(register.open().all(|open| open.problem.text.chars().count() == TEXT_MAX + 1));
        register.clear(ProblemKind::SourceMissing, "q7", now);
        assert!(register.raise(problem("new", "gone"), now, SystemTime::now()).is_some());
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            ProblemKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
    }
}
