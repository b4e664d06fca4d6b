//! Answers for all replicas: passes a request on to the others, and puts their answers together.
//!
//! The others answer it as if it had come to them, without a further step. Their answers carry the
//! proof of the protocol between replicas and are bounded in time and size. Each is parsed as the
//! type that it should be, so that a replica of another version cannot put anything else into our
//! answer. A replica that does not answer is named.

use serde::de::DeserializeOwned;
use url::form_urlencoded::Serializer;

use super::read::Selection;
use super::{Api, Failure};
use crate::peers::Method;
use crate::view::{ItemList, PipelineList, Replica};

/// The most items of one replica on a page of all replicas. Such a page fits into an answer of the
/// protocol.
pub(super) const PAGE_MAX: usize = 100;

/// Begins a cursor over all replicas. It has one part for each replica: `NAME~CURSOR`.
const CURSOR: &str = "all,";

/// The cursor of a replica without further items.
const END: &str = "end";

/// The answers of the other replicas.
pub(super) struct Heard<T> {
    /// Each with the name of its replica.
    pub answers: Vec<(String, T)>,
    /// The others, each with the reason if it gave no answer.
    pub replicas: Vec<Replica>,
}

impl<T> Default for Heard<T> {
    fn default() -> Self {
        Heard { answers: Vec::new(), replicas: Vec::new() }
    }
}

impl Api {
    /// Passes a request on to all other replicas. A replica that does not know the item or the
    /// pipeline adds nothing.
    pub(super) async fn ask_others<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Heard<T> {
        let Some(peers) = &self.peers else { return Heard::default() };
        let mut heard = Heard::default();
        for told in peers.call(method, &target(path, query)).await {
            let (replica, answer) = match told.answer {
                Ok(answer) => (answer.replica, Ok((answer.status, answer.body))),
                Err(reason) => (told.address.clone(), Err(reason)),
            };
            let parsed = answer.and_then(|(status, body)| match status {
                200 => serde_json::from_str(&body).map(Some).map_err(|error| error.to_string()),
                404 => Ok(None),
                status => Err(format!("it answered {status}")),
            });
            let error = match parsed {
                Ok(answer) => {
                    heard.answers.extend(answer.map(|answer| (replica.clone(), answer)));
                    None
                }
                Err(reason) => Some(format!("{}: {reason}", told.address)),
            };
            heard.replicas.push(Replica { replica, error });
        }
        heard
    }

    /// This replica and the others, each with the reason if it gave no answer.
    fn with_own(&self, others: Vec<Replica>) -> Vec<Replica> {
        let own = Replica { replica: self.replica.clone(), error: None };
        std::iter::once(own).chain(others).collect()
    }

    /// The cursor of this replica in a cursor over all of them. `None` if this replica has no
    /// further items.
    pub(super) fn own_cursor(&self, after: Option<&str>) -> Option<Option<String>> {
        let Some(parts) = after.and_then(|after| after.strip_prefix(CURSOR)) else {
            return Some(after.map(str::to_owned));
        };
        let own = parts.split(',').filter_map(|part| part.split_once('~'));
        match own.into_iter().find(|(name, _)| *name == self.replica).map(|(_, cursor)| cursor) {
            Some(END) => None,
            Some(cursor) => Some(Some(cursor.to_owned())),
            // A replica that has come since the first page.
            None => Some(None),
        }
    }

    /// Adds the items of the other replicas.
    pub(super) async fn add_items(
        &self,
        name: &str,
        selection: &Selection,
        mut own: ItemList,
    ) -> Result<ItemList, Failure> {
        let most = selection.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let query = [
            ("state", text(&selection.state)),
            ("reason", text(&selection.reason)),
            ("older", text(&selection.older)),
            ("key", text(&selection.key)),
            ("after", text(&selection.after)),
            ("limit", most.to_string()),
        ];
        let path = ["api", "v1", "pipelines", name, "items"];
        let heard: Heard<ItemList> = self.ask_others(Method::Get, &path, &query).await;
        let mut cursors = vec![(self.replica.clone(), own.next.take())];
        for (replica, list) in heard.answers {
            own.total += list.total;
            own.items.extend(list.items);
            cursors.push((replica, list.next));
        }
        if cursors.iter().any(|(_, next)| next.is_some()) {
            let parts =
                cursors.into_iter().map(|(name, next)| format!("{name}~{}", next.as_deref().unwrap_or(END)));
            own.next = Some(format!("{CURSOR}{}", parts.collect::<Vec<_>>().join(",")));
        }
        own.replicas = self.with_own(heard.replicas);
        Ok(own)
    }

    /// Adds the pipelines of the other replicas.
    pub(super) async fn add_pipelines(&self, mut own: PipelineList) -> PipelineList {
        let heard: Heard<PipelineList> = self.ask_others(Method::Get, &["api", "v1", "pipelines"], &[]).await;
        own.pipelines.extend(heard.answers.into_iter().flat_map(|(_, list)| list.pipelines));
        own.replicas = self.with_own(heard.replicas);
        own
    }
}

/// The path and the query of a request, percent-encoded. Parameters without a value are left out.
fn target(path: &[&str], query: &[(&str, String)]) -> String {
    const PATH: &percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC;
    let mut target = String::new();
    for part in path {
        target.push('/');
        target.extend(percent_encoding::utf8_percent_encode(part, PATH));
    }
    let given = query.iter().filter(|(_, value)| !value.is_empty());
    let query = Serializer::new(String::new()).extend_pairs(given).finish();
    if query.is_empty() { target } else { format!("{target}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_keeps_ids_of_any_kind() {
        let id = "partition:0/offset:7 ä?&";
        let text =
            target(&["api", "v1", "items", id], &[("then", "drop".to_owned()), ("key", String::new())]);
        assert_eq!(text, "/api/v1/items/partition%3A0%2Foffset%3A7%20%C3%A4%3F%26?then=drop");
    }
}
