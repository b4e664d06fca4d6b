//! Replicas over time, in a bounded number of points.

use std::time::Duration;

use serde::Serialize;

use crate::knative::service::Counts;

/// The state from a moment until the next point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    #[serde(serialize_with = "super::units::seconds")]
    pub at: Duration,
    /// The number of replicas that the autoscaler wants.
    pub desired: u32,
    pub ready: u32,
    pub starting: u32,
    /// Replicas that were told to stop and still run a request.
    pub terminating: u32,
    /// Requests held open, the waiting ones included.
    pub in_flight: usize,
    /// Requests that wait for a replica.
    pub waiting: usize,
    /// Items that wait in the broker.
    pub backlog: usize,
}

/// The points, in order. Every change of the replicas adds a point while there is space. Then every
/// second point is removed, and from then on points closer than the new grid are skipped.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    points: Vec<Point>,
    grid: Duration,
}

/// This is enough for a drawing; a plan of weeks has hundreds of thousands of changes.
const POINTS_MAX: usize = 2_000;
/// While the replicas do not change, the backlog is noted at most this often.
const GRID_MIN: Duration = Duration::from_secs(1);

impl Curve {
    pub fn note(&mut self, point: Point) {
        let Some(last) = self.points.last_mut() else {
            return self.points.push(point);
        };
        if last.at == point.at {
            *last = point;
            return;
        }
        let passed = point.at - last.at;
        let changed = replicas(last) != replicas(&point);
        if passed < self.grid || (!changed && passed < GRID_MIN) {
            return;
        }
        self.points.push(point);
        if self.points.len() > POINTS_MAX {
            self.thin_out();
        }
    }

    /// Adds the last moment, even if it is not on the grid.
    pub fn finish(&mut self, point: Point) {
        match self.points.last_mut() {
            Some(last) if last.at == point.at => *last = point,
            _ => self.points.push(point),
        }
    }

    pub fn points(&self) -> &[Point] {
        &self.points
    }

    fn thin_out(&mut self) {
        let span = self.points.last().map_or(Duration::ZERO, |last| last.at);
        self.grid = (self.grid * 2).max(span * 2 / POINTS_MAX as u32);
        let mut kept: Option<Duration> = None;
        let grid = self.grid;
        self.points.retain(|point| {
            let keep = kept.is_none_or(|last| point.at - last >= grid);
            if keep {
                kept = Some(point.at);
            }
            keep
        });
    }
}

impl Point {
    pub fn new(at: Duration, counts: Counts, backlog: usize) -> Self {
        Point {
            at,
            desired: counts.desired,
            ready: counts.ready,
            starting: counts.starting,
            terminating: counts.terminating,
            in_flight: counts.in_flight,
            waiting: counts.queued,
            backlog,
        }
    }

    /// Replicas that are paid for.
    pub fn replicas(&self) -> u32 {
        self.ready + self.starting + self.terminating
    }
}

fn replicas(point: &Point) -> [u32; 4] {
    [point.desired, point.ready, point.starting, point.terminating]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(second: u64, ready: u32) -> Point {
        Point::new(Duration::from_secs(second), Counts { ready, ..Counts::default() }, 0)
    }

    #[test]
    fn keeps_every_change_while_they_fit_and_its_bound_afterwards() {
        let mut curve = Curve::default();
        for second in 0..1_000 {
            curve.note(point(second, (second % 7) as u32));
        }
        assert_eq!(curve.points().len(), 1_000);
        for second in 1_000..100_000 {
            curve.note(point(second, (second % 7) as u32));
        }
        curve.finish(point(100_000, 0));
        let points = curve.points();
        assert!((500..=POINTS_MAX + 1).contains(&points.len()), "{}", points.len());
        assert!(points.is_sorted_by_key(|point| point.at));
        assert_eq!(points.last().unwrap().at, Duration::from_secs(100_000));
    }
}
