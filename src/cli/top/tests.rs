//! The screen on a terminal of 80 columns and 24 lines, and the keys.

use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::asker::{Ask, Told};
use super::model::{Mode, Model};
use super::{draw, keys};
use crate::cli::client::Failure;
use crate::view::{Action, ItemList, Matched, Pipeline};

const NOW: &str = "2026-11-30T12:00:00Z";

fn pipeline(name: &str, more: Value) -> Pipeline {
    let mut value = json!({
        "name": name, "source": "queue", "sink": "http://sink", "state": "running",
        "sentence": "1,240 done, clears at about 04:10 ± 12 min", "backlog": 1240,
        "counts": { "running": 12, "retrying": 2, "held": 1, "done": 1240 },
        "limit": { "max_in_flight": 20, "ceiling": 20, "working": 20, "running": 12, "binding": "max-in-flight" },
        "problems": [], "done_per_minute": 12.3, "mean_seconds": 94.2, "pods": 12,
    });
    for (key, field) in more.as_object().unwrap() {
        value[key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn items() -> ItemList {
    serde_json::from_value(json!({
        "items": [
            { "id": "video/0001.mp4", "pipeline": "thumbnails", "state": "running", "attempt": 1, "attempts": 5,
              "since": "2026-11-30T10:40:00Z", "progress": { "percent": 43.0, "note": "frame 9", "at": NOW } },
            { "id": "evil\u{1b}[2J", "pipeline": "thumbnails", "state": "retrying", "attempt": 2, "attempts": 5,
              "since": "2026-11-30T11:59:00Z", "next": "2026-11-30T12:00:40Z",
              "last": { "status": 500, "outcome": "failed", "text": "KeyError", "at": NOW } },
            { "id": "video/0003.mp4", "pipeline": "thumbnails", "state": "held", "attempt": 5, "attempts": 5,
              "since": "2026-11-29T11:59:00Z", "reason": "attempts",
              "last": { "outcome": "unknown", "text": "connection lost", "at": NOW } },
        ],
        "total": 203, "next": "3",
    }))
    .unwrap()
}

fn model() -> Model {
    let sample = |index: u32| json!({ "at": NOW, "backlog": 100 - index, "running": index.min(20), "held": 0, "done": index * 3, "failed": 0 });
    let history: Vec<Value> = (0..60).map(sample).collect();
    let stuck = json!({
        "state": "stuck", "sentence": "stuck for 12 min: dead-letter queue reports.dead is missing",
        "problems": [{ "kind": "target", "subject": "reports.dead", "since": "2026-11-30T11:48:00Z",
            "text": "the dead-letter queue reports.dead is missing", "help": "create the queue" }],
    });
    let mut model = Model::new("http://127.0.0.1:9090".to_owned(), None);
    model.learn(Told::State {
        pipelines: vec![pipeline("thumbnails", json!({})), pipeline("reports", stuck)],
        chosen: Some(Box::new(pipeline("thumbnails", json!({ "history": history })))),
        items: items(),
    });
    model
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let now: Timestamp = NOW.parse().unwrap();
    terminal.draw(|frame| draw::screen(frame, model, now)).unwrap();
    terminal.backend().to_string()
}

fn press(model: &mut Model, keys: &[KeyCode]) {
    for key in keys {
        keys::press(model, KeyEvent::new(*key, KeyModifiers::NONE));
    }
}

#[test]
fn the_screen_fits_into_eighty_columns() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path("snapshots");
    settings.bind(|| {
        let mut model = model();
        insta::assert_snapshot!("top", screen(&model, 80, 24));
        press(&mut model, &[KeyCode::Down, KeyCode::Enter]);
        insta::assert_snapshot!("top-details", screen(&model, 80, 24));
        press(&mut model, &[KeyCode::Esc, KeyCode::Char('?')]);
        insta::assert_snapshot!("top-keys", screen(&model, 80, 24));
    });
}

#[test]
fn a_stuck_pipeline_shows_its_problem_and_the_way_to_fix_it() {
    let mut model = model();
    press(&mut model, &[KeyCode::Tab]);
    assert_eq!(model.name.as_deref(), Some("reports"));
    let stuck = model.pipelines[1].clone();
    model.learn(Told::State {
        pipelines: model.pipelines.clone(),
        chosen: Some(Box::new(stuck)),
        items: ItemList::default(),
    });
    let text = screen(&model, 80, 24);
    assert!(
        text.contains("reports.dead is missing (for 12 min)") && text.contains("help: create the queue"),
        "{text}"
    );
    press(&mut model, &[KeyCode::BackTab, KeyCode::BackTab]);
    assert_eq!(model.name.as_deref(), Some("reports"), "the choice goes round");
}

#[test]
fn any_size_and_any_state_can_be_drawn() {
    let mut model = model();
    for mode in [Mode::Items, Mode::Details, Mode::Help, Mode::Filter, Mode::Limit("3".to_owned())] {
        model.mode = mode;
        model.details = Some((model.items[1].clone(), vec!["\u{1b}[31mred".to_owned()]));
        for (width, height) in [(1, 1), (10, 3), (40, 12), (80, 24), (200, 60)] {
            let text = screen(&model, width, height);
            assert!(!text.contains('\u{1b}'), "text from outside controls nothing");
        }
    }
}

#[test]
fn an_action_counts_first_and_asks_before_it_changes_anything() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('s'), KeyCode::Char('s'), KeyCode::Char('a'), KeyCode::Char('x')]);
    let Some(Ask::Count(deed)) = model.requests.pop() else { panic!("no count: {:?}", model.requests) };
    assert_eq!((deed.action, &deed.id), (Action::Drop, &None));
    assert_eq!(deed.query[0], ("state", "running".to_owned()));
    model.learn(Told::Counted(deed.clone(), Matched { matched: 40, changed: 37, dry_run: true }));
    assert!(screen(&model, 80, 24).contains("drop 37 of 40 items?"));
    press(&mut model, &[KeyCode::Char('n')]);
    assert!(model.requests.is_empty() && model.mode == Mode::Items);
    model.learn(Told::Counted(deed.clone(), Matched { matched: 40, changed: 37, dry_run: true }));
    press(&mut model, &[KeyCode::Char('y')]);
    assert_eq!(model.requests.pop(), Some(Ask::Act(deed)));
}

#[test]
fn an_action_of_one_item_is_on_the_item_under_the_cursor_while_the_list_moves() {
    let mut model = model();
    press(&mut model, &[KeyCode::Down, KeyCode::Down]);
    let mut list = items();
    list.items.remove(0);
    model.learn(Told::State {
        pipelines: model.pipelines.clone(),
        chosen: model.chosen.clone().map(Box::new),
        items: list,
    });
    press(&mut model, &[KeyCode::Char('R')]);
    let Some(Ask::Count(deed)) = model.requests.pop() else { panic!("no count") };
    assert_eq!((deed.action, deed.id.as_deref()), (Action::Release, Some("video/0003.mp4")));
}

#[test]
fn filter_pages_and_limit_become_requests() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('/'), KeyCode::Char('0'), KeyCode::Char('4'), KeyCode::Enter]);
    let Ask::Refresh { query, .. } = model.refresh() else { panic!("no refresh") };
    assert!(query.contains(&("key", "04".to_owned())), "{query:?}");
    model.next = Some("3".to_owned());
    press(&mut model, &[KeyCode::PageDown]);
    let Ask::Refresh { query, .. } = model.refresh() else { panic!("no refresh") };
    assert!(query.contains(&("after", "3".to_owned())), "{query:?}");
    press(&mut model, &[KeyCode::Char('l'), KeyCode::Char('7'), KeyCode::Enter, KeyCode::Char('p')]);
    let changes: Vec<&str> = model
        .requests
        .iter()
        .map(|ask| if let Ask::Change { change, .. } = ask { change } else { "other" })
        .collect();
    assert_eq!(changes, ["limit", "pause"]);
    press(&mut model, &[KeyCode::Char('q')]);
    assert!(model.is_over);
}

#[test]
fn a_late_answer_about_another_pipeline_is_not_shown() {
    let mut model = model();
    let late = model.chosen.clone();
    press(&mut model, &[KeyCode::Tab]);
    model.learn(Told::State {
        pipelines: model.pipelines.clone(),
        chosen: late.map(Box::new),
        items: items(),
    });
    assert_eq!(model.name.as_deref(), Some("reports"));
    assert!(model.items.is_empty() && model.is_stale);
}

#[test]
fn a_lost_connection_is_shown_and_forgotten_when_it_is_back() {
    let mut model = model();
    let reason = "nothing listens at http://127.0.0.1:9090".to_owned();
    model.learn(Told::Lost(Failure { status: None, code: 69, reason, help: String::new() }));
    assert!(screen(&model, 120, 24).contains("connection lost: nothing listens"));
    model.learn(Told::State { pipelines: model.pipelines.clone(), chosen: None, items: items() });
    assert!(!screen(&model, 120, 24).contains("connection lost"));
}
