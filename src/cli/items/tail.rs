//! `longhaul items tail`: follows the log of an item until it ends.

use std::io::Write;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{One, failed, find};
use crate::cli::client::{Client, Outcome};
use crate::cli::table::{answer, attempt, shown};
use crate::view::{Item, ItemLog};

/// The pause between two requests.
const EVERY: Duration = Duration::from_secs(1);

/// Prints the lines to `out`, and the states of the item to `err`.
pub fn follow(client: &Client, one: &One, out: &mut dyn Write, err: &mut dyn Write) -> Outcome {
    let mut printed: Vec<String> = Vec::new();
    let mut state = String::new();
    loop {
        let item = match find(client, one) {
            Ok(answer) => answer.value,
            Err(failure) if failure.status == Some(404) && !state.is_empty() => {
                writeln!(err, "-- {} has left this replica", shown(&one.id))?;
                return Ok(Ok(()));
            }
            Err(failure) => return failed(failure),
        };
        let path = ["api", "v1", "items", &one.id, "log"];
        let log = match client.read::<ItemLog>(&path, &[("pipeline", &item.pipeline)]) {
            Ok(answer) => answer.value.lines,
            Err(failure) if failure.status == Some(404) => Vec::new(),
            Err(failure) => return failed(failure),
        };
        for line in fresh(&printed, &log) {
            match one.client.json {
                true => writeln!(out, "{}", json!({ "id": one.id, "line": line }))?,
                false => writeln!(out, "{}", shown(line))?,
            }
        }
        out.flush()?;
        printed = log;
        let now = headline(&item);
        if now != state {
            writeln!(err, "-- {now}")?;
            state = now;
        }
        if item.state.is_finished() {
            return Ok(Ok(()));
        }
        thread::sleep(EVERY);
    }
}

fn headline(item: &Item) -> String {
    let answer = match answer(item) {
        answer if answer.is_empty() => answer,
        answer => format!(", {answer}"),
    };
    format!("{} is {}, attempt {}{answer}", shown(&item.id), item.state, attempt(item))
}

/// The lines of `log` that were not printed. The log is a tail: it loses lines at its front, so the
/// longest end of the printed lines that begins the log tells where the new ones start.
fn fresh<'a>(printed: &[String], log: &'a [String]) -> &'a [String] {
    let most = printed.len().min(log.len());
    let known = (0..=most).rev().find(|&count| printed[printed.len() - count..] == log[..count]);
    &log[known.unwrap_or_default()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_moving_tail_is_printed_once() {
        let lines = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
        for (printed, log, expected) in [
            ("", "a b", "a b"),
            ("a b", "a b", ""),
            ("a b", "a b c", "c"),
            ("a b c", "b c d e", "d e"),
            ("a a", "a a a", "a"),
            ("a b", "x y", "x y"),
        ] {
            assert_eq!(fresh(&lines(printed), &lines(log)), lines(expected), "{printed} then {log}");
        }
    }
}
