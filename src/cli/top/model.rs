//! The state of the screen.

use super::asker::{Ask, Deed, Told};
use crate::view::{Action, Item, ItemState, Pipeline};

/// The number of items of a page.
pub const PAGE: usize = 100;

/// The choices of the key `s`, each with the states that it shows.
pub const SELECTIONS: [(&str, &[ItemState]); 6] = [
    ("all", &[]),
    ("unfinished", &ItemState::UNFINISHED),
    ("running", &[ItemState::Running]),
    ("retrying", &[ItemState::Retrying]),
    ("held", &[ItemState::Held]),
    ("failed", &[ItemState::DeadLettered, ItemState::Dropped]),
];

/// The part of the screen that has the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Items,
    /// The details of one item.
    Details,
    /// The part of an id is typed.
    Filter,
    /// The limit of the pipeline is typed.
    Limit(String),
    /// A question that `y` answers.
    Confirm {
        question: String,
        ask: Ask,
    },
    Help,
}

pub struct Model {
    pub address: String,
    pub pipelines: Vec<Pipeline>,
    /// The chosen pipeline with its history.
    pub chosen: Option<Pipeline>,
    /// The wanted pipeline. It may have gone.
    pub name: Option<String>,
    pub items: Vec<Item>,
    pub total: usize,
    /// The row of the cursor.
    pub row: usize,
    pub selection: usize,
    pub key: String,
    /// The cursors of the pages before this one and of this one.
    pub trail: Vec<String>,
    pub next: Option<String>,
    pub mode: Mode,
    /// Actions apply to all that match, and not to the item under the cursor.
    pub on_all: bool,
    pub details: Option<(Item, Vec<String>)>,
    pub message: Option<String>,
    /// The reason why the state shown is old.
    pub lost: Option<String>,
    pub requests: Vec<Ask>,
    /// A refresh is on its way.
    pub is_waiting: bool,
    /// The state shown is not the wanted one: ask at once.
    pub is_stale: bool,
    pub is_over: bool,
}

impl Model {
    pub fn new(address: String, name: Option<String>) -> Self {
        Model {
            address,
            pipelines: Vec::new(),
            chosen: None,
            name,
            items: Vec::new(),
            total: 0,
            row: 0,
            selection: 0,
            key: String::new(),
            trail: Vec::new(),
            next: None,
            mode: Mode::Items,
            on_all: false,
            details: None,
            message: None,
            lost: None,
            requests: Vec::new(),
            is_waiting: false,
            is_stale: true,
            is_over: false,
        }
    }

    /// Takes an answer in.
    pub fn learn(&mut self, told: Told) {
        match told {
            Told::State { pipelines, chosen, items } => {
                self.is_waiting = false;
                self.lost = None;
                self.pipelines = pipelines;
                let name = chosen.as_ref().map(|pipeline| pipeline.name.clone());
                if self.name != name {
                    if self.is_known() {
                        // Another one was chosen while this answer was on its way.
                        self.is_stale = true;
                        return;
                    }
                    self.name = name;
                    self.start_over();
                }
                self.chosen = chosen.map(|pipeline| *pipeline);
                if items.items.is_empty() && self.trail.pop().is_some() {
                    self.is_stale = true;
                }
                self.total = items.total;
                self.next = items.next;
                self.keep_cursor(items.items);
                if let (Mode::Details, Some((item, _))) = (&self.mode, &self.details) {
                    let (id, pipeline) = (item.id.clone(), item.pipeline.clone());
                    self.requests.push(Ask::Item { id, pipeline });
                }
            }
            Told::Item(item, log) => {
                // An answer about an item that has been left already changes nothing.
                if self.details.as_ref().is_some_and(|(shown, _)| shown.id == item.id) {
                    self.details = Some((*item, log));
                }
            }
            Told::Counted(deed, matched) => {
                if matched.changed == 0 {
                    self.message =
                        Some(format!("{} fits none of {} items", deed.action.as_str(), matched.matched));
                    return;
                }
                let whom = match &deed.id {
                    Some(id) if matched.matched == 1 => id.clone(),
                    _ => format!("{} of {} items", matched.changed, matched.matched),
                };
                let question = format!("{} {whom}?", deed.action.as_str());
                self.mode = Mode::Confirm { question, ask: Ask::Act(deed) };
            }
            Told::Done(text) => {
                self.message = Some(text);
                self.on_all = false;
                self.is_stale = true;
            }
            Told::Failed(failure) => {
                self.message = Some(format!("{}; {}", failure.reason, failure.help));
            }
            Told::Lost(failure) => {
                self.is_waiting = false;
                self.lost = Some(failure.reason);
            }
        }
    }

    /// Whether the wanted pipeline exists.
    fn is_known(&self) -> bool {
        self.pipelines.iter().any(|pipeline| Some(&pipeline.name) == self.name.as_ref())
    }

    /// Keeps the cursor on its item while the list moves.
    fn keep_cursor(&mut self, items: Vec<Item>) {
        let place = |item: &Item| {
            let Item { id, queue, delivery_tag, topic, partition, offset, .. } = item.clone();
            (id, queue, delivery_tag, topic, partition, offset)
        };
        let under = self.items.get(self.row).map(place);
        let found = under.and_then(|under| items.iter().position(|item| place(item) == under));
        self.items = items;
        self.row = found.unwrap_or(self.row).min(self.items.len().saturating_sub(1));
    }

    /// The request for the state that is to be shown.
    pub fn refresh(&self) -> Ask {
        let mut query = self.filter();
        query.push(("limit", PAGE.to_string()));
        query.extend(self.trail.last().map(|after| ("after", after.clone())));
        Ask::Refresh { pipeline: self.name.clone(), query }
    }

    fn filter(&self) -> Vec<(&'static str, String)> {
        let states: Vec<&str> = SELECTIONS[self.selection].1.iter().map(|state| state.as_str()).collect();
        vec![("state", states.join(",")), ("key", self.key.clone())]
    }

    /// Goes to the first page of a new list.
    pub fn start_over(&mut self) {
        self.trail.clear();
        self.next = None;
        self.row = 0;
        self.on_all = false;
        self.is_stale = true;
    }

    pub fn choose(&mut self, step: isize) {
        let at = self.pipelines.iter().position(|pipeline| Some(&pipeline.name) == self.name.as_ref());
        let count = self.pipelines.len();
        if count == 0 {
            return;
        }
        let next = at.unwrap_or_default().wrapping_add_signed(step).checked_rem(count);
        // A step back from the first wraps round to the last.
        let next = if step < 0 && at == Some(0) { count - 1 } else { next.unwrap_or_default() };
        self.name = Some(self.pipelines[next].name.clone());
        self.items.clear();
        self.start_over();
    }

    /// The action on the item under the cursor or on all that match.
    pub fn deed(&self, action: Action) -> Option<Deed> {
        let pipeline = self.name.clone()?;
        if self.on_all {
            return Some(Deed { action, pipeline, id: None, query: self.filter() });
        }
        let item = match (&self.mode, &self.details) {
            (Mode::Details, Some((item, _))) => item,
            _ => self.items.get(self.row)?,
        };
        Some(Deed { action, pipeline, id: Some(item.id.clone()), query: Vec::new() })
    }
}
