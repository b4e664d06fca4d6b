//! Writes a forecast for people: a table with a column per scenario, then the advice.

use std::fmt::Write;
use std::time::Duration;

use super::advice::{Advice, Weight};
use super::curve::Point;
use super::forecast::{Forecast, Spread};
use super::words::{human, plural};

/// A row's label, and the function that fills a scenario's cell; `None` leaves the cell empty.
type Row = (&'static str, fn(&Forecast) -> Option<String>);

const ROWS: [Row; 17] = [
    ("items", |f| Some(f.typical().items.to_string())),
    ("time to drain", |f| Some(f.drain().map_or("never: see below".to_owned(), times))),
    ("ideal time", |f| Some(human(f.typical().ideal))),
    ("times the ideal", |f| f.times_ideal().map(|ratio| with_range(ratio, |n| format!("{n:.2}")))),
    ("first to last", |f| Some(times(f.spread(|run| run.worked().as_secs_f64())))),
    ("all replicas ready", |f| Some(times(f.spread(|run| run.all_ready.as_secs_f64())))),
    ("back at the floor", |f| {
        Some(f.to_floor().map_or("never".to_owned(), |s| format!("{} later", times(s))))
    }),
    ("most replicas", |f| Some(with_range(f.spread(|run| f64::from(run.most_replicas)), whole))),
    ("with stopping ones", |f| {
        let any = f.runs().iter().any(|run| run.most_paid != run.most_replicas);
        any.then(|| with_range(f.spread(|run| f64::from(run.most_paid)), whole))
    }),
    ("cold starts", |f| Some(with_range(f.spread(|run| f64::from(run.cold_starts)), whole))),
    ("replica hours", |f| {
        Some(with_range(f.spread(|run| run.replica_seconds / 3600.0), |n| format!("{n:.2}")))
    }),
    ("cost", |f| f.cost().map(|cost| with_range(cost, |n| format!("{n:.2}")))),
    ("idle share", |f| Some(with_range(f.spread(|run| run.idle_share() * 100.0), |n| format!("{n:.0} %")))),
    ("longest wait", |f| Some(times(f.spread(|run| run.longest_wait.as_secs_f64())))),
    ("failed attempts", |f| some_of(f, |run| run.failed)),
    ("cut by a timeout", |f| some_of(f, |run| run.cut)),
    ("dead-lettered", |f| some_of(f, |run| run.totals.dead_lettered)),
];

/// Returns the whole report.
pub fn report(forecasts: &[(Forecast, Vec<Advice>)], seed: u64) -> String {
    let mut text = String::new();
    let seeds = forecasts.first().map_or(1, |(forecast, _)| forecast.runs().len() as u64);
    let last = seed.wrapping_add(seeds - 1);
    let which = if seeds == 1 {
        format!("seed {seed}")
    } else {
        format!("seeds {seed} to {last}: median (lowest to highest)")
    };
    text.push_str(&format!("longhaul plan, {which}\n\n"));
    text.push_str(&table(forecasts));
    for (forecast, advice) in forecasts {
        text.push('\n');
        text.push_str(&details(forecast, advice));
    }
    text
}

fn table(forecasts: &[(Forecast, Vec<Advice>)]) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    if forecasts.len() > 1 {
        let names = forecasts.iter().map(|(forecast, _)| forecast.scenario.name.clone());
        lines.push(std::iter::once(String::new()).chain(names).collect());
    }
    for (label, cell) in ROWS {
        let cells: Vec<Option<String>> = forecasts.iter().map(|(forecast, _)| cell(forecast)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
            lines.push(std::iter::once(label.to_owned()).chain(cells).collect());
        }
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=forecasts.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn details(forecast: &Forecast, advice: &[Advice]) -> String {
    let mut text = format!("{}\n", forecast.scenario.name);
    let typical = forecast.typical();
    let limits: Vec<String> = forecast
        .limits()
        .iter()
        .filter(|(_, share)| *share >= 0.005)
        .map(|(limit, share)| format!("{} {:.0} %", limit.as_str(), share * 100.0))
        .collect();
    push(&mut text, format_args!("  limited by  {}\n", limits.join(", ")));
    push(&mut text, format_args!("  replicas    {}\n", sparkline(typical.curve.points(), typical.most_paid)));
    if let Some(why) = never_drains(forecast) {
        push(&mut text, format_args!("  {why}\n"));
    }
    let now = typical.drained.map(|drained| drained.as_secs_f64());
    for advice in advice {
        let weight = match advice.weight {
            Weight::Harm => "harm",
            Weight::Cost => "cost",
            Weight::Note => "note",
        };
        push(
            &mut text,
            format_args!("  {weight}: {} {}\n        write {}", advice.setting, advice.why, advice.help),
        );
        if let Some(then) = advice.then {
            let drain = then
                .drain_seconds
                .map_or("it never drains".to_owned(), |then| format!("{} to drain", change(now, then, span)));
            let hours = change(Some(typical.replica_seconds / 3600.0), then.replica_seconds / 3600.0, |n| {
                format!("{n:.2}")
            });
            push(&mut text, format_args!(" ({drain}, {hours} replica hours)"));
        }
        text.push('\n');
    }
    text
}

/// Explains why the table has no time to drain. The typical run may drain although others do not,
/// so it cannot explain that.
fn never_drains(forecast: &Forecast) -> Option<String> {
    let runs = forecast.runs();
    let never: Vec<&super::Run> = runs.iter().filter(|run| run.drained.is_none()).collect();
    let first = never.first()?;
    let left = plural(first.items - first.totals.settled, "item");
    let which = match never.len() {
        count if count == runs.len() => "it never drains".to_owned(),
        count => format!("it never drains with {count} of {} seeds", runs.len()),
    };
    let of = if runs.len() > 1 { format!(" (seed {})", first.seed) } else { String::new() };
    Some(format!("{which}: {left} left, {} of them held{of}", first.totals.held))
}

/// Draws replicas over time. A column shows the highest number in its share of the time.
fn sparkline(points: &[Point], most: u32) -> String {
    const COLUMNS: usize = 60;
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Some(last) = points.last().filter(|last| !last.at.is_zero() && most > 0) else {
        return format!("{most} all the time");
    };
    let mut columns = [0u32; COLUMNS];
    let column = |at: Duration| ((at.div_duration_f64(last.at) * COLUMNS as f64) as usize).min(COLUMNS - 1);
    for pair in points.windows(2) {
        for value in &mut columns[column(pair[0].at)..=column(pair[1].at)] {
            *value = (*value).max(pair[0].replicas());
        }
    }
    let bar = |value: u32| match value {
        0 => ' ',
        _ => BARS[((value * 8).div_ceil(most).clamp(1, 8) - 1) as usize],
    };
    let bars: String = columns.into_iter().map(bar).collect();
    format!("|{bars}| {most} at most, {} in all", human(last.at))
}

fn change(from: Option<f64>, to: f64, show: fn(f64) -> String) -> String {
    match from.map(show) {
        Some(from) if from != show(to) => format!("{from} → {}", show(to)),
        _ => show(to),
    }
}

fn some_of(forecast: &Forecast, number: fn(&super::Run) -> usize) -> Option<String> {
    let any = forecast.runs().iter().any(|run| number(run) > 0);
    any.then(|| with_range(forecast.spread(|run| number(run) as f64), whole))
}

fn whole(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.1}") }
}

fn times(spread: Spread) -> String {
    with_range(spread, span)
}

fn with_range(spread: Spread, show: fn(f64) -> String) -> String {
    let (lowest, highest) = (show(spread.lowest), show(spread.highest));
    let median = show(spread.median);
    if lowest == highest { median } else { format!("{median} ({lowest} to {highest})") }
}

fn span(seconds: f64) -> String {
    human(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Appends formatted text. Writing to a string never fails.
fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(more);
}
