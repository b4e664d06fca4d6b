//! Prints the table at the end: for each case the median over the rounds, and the range.

use std::fmt;

/// One measurement.
pub struct Run {
    pub per_second: f64,
    /// The ratio to wrk's rate of the same minute, since a machine's speed changes from minute to
    /// minute.
    pub of_wrk: f64,
    pub of_client: f64,
    /// CPU time of the sending process per item, in microseconds, if it could be read.
    pub cpu: Option<f64>,
}

#[derive(Default)]
pub struct Table(Vec<(String, Vec<Run>)>);

impl Table {
    pub fn add(&mut self, case: &str, run: Run) {
        match self.0.iter_mut().find(|(known, _)| known == case) {
            Some((_, runs)) => runs.push(run),
            None => self.0.push((case.to_owned(), vec![run])),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rate, wrk, client, cpu] = ["items/s", "of wrk", "of client alone", "CPU µs an item"];
        writeln!(f, "{:<32} {rate:>9} {wrk:>18} {client:>18} {cpu:>15}", "")?;
        for (case, runs) in &self.0 {
            let spread = |of: fn(&Run) -> f64| Spread::of(runs.iter().map(of));
            let rate = spread(|run| run.per_second).median;
            let (of_wrk, of_client) = (spread(|run| run.of_wrk), spread(|run| run.of_client));
            let cpu = Spread::of(runs.iter().filter_map(|run| run.cpu)).median;
            let cpu = if cpu.is_nan() { "-".to_owned() } else { format!("{cpu:.0}") };
            let (of_wrk, of_client) = (of_wrk.to_string(), of_client.to_string());
            writeln!(f, "{case:<32} {rate:>9.0} {of_wrk:>18} {of_client:>18} {cpu:>15}")?;
        }
        Ok(())
    }
}

/// The spread of one figure over the rounds.
pub struct Spread {
    least: f64,
    pub median: f64,
    most: f64,
}

impl Spread {
    pub fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        Spread { least: at(0), median: at(figures.len() / 2), most: at(figures.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.least, self.most)
    }
}
