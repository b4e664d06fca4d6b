//! Keys.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::asker::Ask;
use super::model::{Mode, Model, SELECTIONS};
use crate::view::Action;

/// The keys of the list and their effects, for the help.
pub const HELP: [(&str, &str); 15] = [
    ("Up, Down, j, k", "move to another item"),
    ("Left, Right, Tab", "choose another pipeline"),
    ("PgUp, PgDn", "previous or next page"),
    ("Enter", "details and log of the item"),
    ("s", "show other states"),
    ("/", "show ids with this text"),
    ("a", "act on all that match, or on one item"),
    ("r", "retry now"),
    ("R", "release a held item"),
    ("h", "hold"),
    ("c", "cancel: close the request, try again later"),
    ("d, x", "dead-letter, drop"),
    ("p, u", "pause, resume the pipeline"),
    ("l, D", "set the limit, drain the pipeline"),
    ("q, Esc", "leave"),
];

/// Carries a key out.
pub fn press(model: &mut Model, key: KeyEvent) {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        model.is_over |= matches!(key.code, KeyCode::Char('c' | 'd'));
        return;
    }
    model.message = None;
    match std::mem::replace(&mut model.mode, Mode::Items) {
        Mode::Items => in_list(model, key.code),
        Mode::Details => in_details(model, key.code),
        Mode::Help => {}
        Mode::Confirm { ask, .. } => match key.code {
            KeyCode::Char('y' | 'Y') => model.requests.push(ask),
            _ => model.message = Some("Nothing changed".to_owned()),
        },
        Mode::Filter => in_filter(model, key.code),
        Mode::Limit(text) => in_limit(model, text, key.code),
    }
}

fn in_list(model: &mut Model, key: KeyCode) {
    let last = model.items.len().saturating_sub(1);
    match key {
        KeyCode::Char('q') | KeyCode::Esc => model.is_over = true,
        KeyCode::Char('?') => model.mode = Mode::Help,
        KeyCode::Down | KeyCode::Char('j') => model.row = (model.row + 1).min(last),
        KeyCode::Up | KeyCode::Char('k') => model.row = model.row.saturating_sub(1),
        KeyCode::Home => model.row = 0,
        KeyCode::End => model.row = last,
        KeyCode::Right | KeyCode::Tab => model.choose(1),
        KeyCode::Left | KeyCode::BackTab => model.choose(-1),
        KeyCode::PageDown => {
            if let Some(next) = model.next.take() {
                model.trail.push(next);
                model.row = 0;
                model.is_stale = true;
            }
        }
        KeyCode::PageUp => {
            model.trail.pop();
            model.row = 0;
            model.is_stale = true;
        }
        KeyCode::Enter => {
            if let Some(item) = model.items.get(model.row).cloned() {
                model.requests.push(Ask::Item { id: item.id.clone(), pipeline: item.pipeline.clone() });
                model.details = Some((item, Vec::new()));
                model.mode = Mode::Details;
                model.on_all = false;
            }
        }
        KeyCode::Char('s') => {
            model.selection = (model.selection + 1) % SELECTIONS.len();
            model.start_over();
        }
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Char('a') => model.on_all = !model.on_all,
        KeyCode::Char('p') => change(model, "pause"),
        KeyCode::Char('u') => change(model, "resume"),
        KeyCode::Char('l') => model.mode = Mode::Limit(String::new()),
        KeyCode::Char('D') => {
            if let Some(pipeline) = model.name.clone() {
                let question = format!("drain {pipeline}? Nothing new starts until somebody resumes it");
                let ask = Ask::Change { pipeline, change: "drain", query: Vec::new() };
                model.mode = Mode::Confirm { question, ask };
            }
        }
        KeyCode::Char(letter) => act(model, letter),
        _ => {}
    }
}

fn in_details(model: &mut Model, key: KeyCode) {
    match key {
        KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter => model.details = None,
        KeyCode::Char(letter) => {
            model.mode = Mode::Details;
            act(model, letter);
        }
        _ => model.mode = Mode::Details,
    }
}

/// Counts first, and asks before the change.
fn act(model: &mut Model, letter: char) {
    let action = match letter {
        'r' => Action::Retry,
        'R' => Action::Release,
        'h' => Action::Hold,
        'c' => Action::Cancel,
        'd' => Action::DeadLetter,
        'x' => Action::Drop,
        _ => return,
    };
    match model.deed(action) {
        Some(deed) => model.requests.push(Ask::Count(deed)),
        None => model.message = Some("No item is shown".to_owned()),
    }
}

fn change(model: &mut Model, change: &'static str) {
    if let Some(pipeline) = model.name.clone() {
        model.requests.push(Ask::Change { pipeline, change, query: Vec::new() });
    }
}

fn in_filter(model: &mut Model, key: KeyCode) {
    match key {
        KeyCode::Enter => return,
        KeyCode::Esc => model.key.clear(),
        KeyCode::Backspace => {
            model.key.pop();
            model.mode = Mode::Filter;
        }
        KeyCode::Char(letter) => {
            model.key.push(letter);
            model.mode = Mode::Filter;
        }
        _ => model.mode = Mode::Filter,
    }
    model.start_over();
}

fn in_limit(model: &mut Model, mut text: String, key: KeyCode) {
    match key {
        KeyCode::Esc => return,
        KeyCode::Enter => {
            if let Some(pipeline) = model.name.clone().filter(|_| !text.is_empty()) {
                let query = vec![("max_in_flight", text)];
                model.requests.push(Ask::Change { pipeline, change: "limit", query });
            }
            return;
        }
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char(digit) if digit.is_ascii_digit() && text.len() < 5 => text.push(digit),
        _ => {}
    }
    model.mode = Mode::Limit(text);
}
