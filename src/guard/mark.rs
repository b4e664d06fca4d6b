//! The marks on a pod: annotations that are written and removed together.
//!
//! A busy pod carries a high deletion cost. While busy pods wait for their marks, idle pods carry
//! the lowest one, so that the ReplicaSet controller removes them first.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::telemetry::timestamp;

/// The ReplicaSet controller removes the pods with the lowest number first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Karpenter neither consolidates nor drains the node of a pod with this annotation.
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// The cluster-autoscaler does not remove the node of a pod with `false` here.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Who has marked the pod.
pub const OWN: &str = "longhaul/guard";

/// Every annotation that the guard reads or writes.
pub const ALL: [&str; 4] = [DELETION_COST, DO_NOT_DISRUPT, SAFE_TO_EVICT, OWN];

/// The time at which a start has the highest cost that fits into the annotation: the year 2026.
const FIRST: Duration = Duration::from_secs(1_767_225_600);

/// The deletion cost of an idle pod that is to go before all others.
const LOWEST: i32 = i32::MIN;

/// Annotations by name.
pub type Annotations = BTreeMap<String, String>;

/// The mark of a pod. The annotation [`OWN`] has it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The bridge that has written it.
    pub holder: String,
    /// The start of the item, in RFC 3339. For an idle pod, the time of the write.
    pub since: String,
    /// The time of the write. A holder that lives renews one of its marks every few seconds.
    pub time: String,
    /// The values of the other annotations before the mark, for example from the Service's
    /// template. They are restored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub was: Annotations,
    /// Whether the pod is idle and carries the lowest cost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

impl Mark {
    /// A mark for an item that started at `since` in a pod with these annotations.
    pub fn new(holder: &str, since: SystemTime, now: SystemTime, found: &Annotations) -> Self {
        let earlier = Mark::of(found);
        let was = match earlier {
            Some(earlier) => earlier.was,
            None => found.iter().filter(|(name, _)| *name != OWN).map(owned).collect(),
        };
        Mark { holder: holder.to_owned(), since: timestamp(since), time: timestamp(now), was, idle: false }
    }

    /// A mark for an idle pod with these annotations.
    pub fn idle(holder: &str, now: SystemTime, found: &Annotations) -> Self {
        Mark { idle: true, ..Mark::new(holder, now, now, found) }
    }

    /// The mark among a pod's annotations. Text that is not a mark counts as none.
    pub fn of(annotations: &Annotations) -> Option<Self> {
        serde_json::from_str(annotations.get(OWN)?).ok()
    }

    /// The start of the item, in whole seconds.
    pub fn start(&self) -> SystemTime {
        let seconds = self.since.parse::<jiff::Timestamp>().map_or(0, |since| since.as_second());
        UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }

    /// The annotations of a pod with this mark. An idle pod keeps those for node autoscalers from
    /// before the mark.
    pub fn annotations(&self) -> Annotations {
        let mut annotations = self.was.clone();
        let mut set = |name: &str, value: String| annotations.insert(name.to_owned(), value);
        set(OWN, serde_json::to_string(self).unwrap_or_default());
        if self.idle {
            set(DELETION_COST, LOWEST.to_string());
        } else {
            set(DELETION_COST, cost(self.start()).to_string());
            set(DO_NOT_DISRUPT, "true".to_owned());
            set(SAFE_TO_EVICT, "false".to_owned());
        }
        annotations
    }
}

/// The deletion cost of a pod whose item started at `since`: higher for an earlier start. It does
/// not depend on the present time, so the order of busy pods is right without a further write.
pub fn cost(since: SystemTime) -> i32 {
    let age = since.duration_since(UNIX_EPOCH + FIRST).unwrap_or_default().as_secs();
    i32::MAX.saturating_sub(i32::try_from(age).unwrap_or(i32::MAX)).max(1)
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + FIRST + Duration::from_secs(seconds)
    }

    #[test]
    fn an_earlier_start_costs_more_and_a_day_fits_into_the_annotation() {
        assert!(cost(at(0)) > cost(at(1)));
        assert_eq!(cost(at(0)) - cost(at(86_400)), 86_400);
        assert_eq!(cost(at(u64::from(u32::MAX))), 1, "a clock that is wrong gives a valid number");
        assert_eq!(cost(UNIX_EPOCH), i32::MAX);
    }

    #[test]
    fn a_mark_is_read_back_and_remembers_the_values_before_it() {
        let template = Annotations::from([(SAFE_TO_EVICT.to_owned(), "false".to_owned())]);
        let mark = Mark::new("a", at(1), at(12), &template);
        assert_eq!(mark.was, template);
        let marked = mark.annotations();
        assert_eq!(Mark::of(&marked), Some(mark.clone()));
        assert_eq!(marked[DELETION_COST], cost(at(1)).to_string());
        let renewed = Mark::new("b", at(2), at(20), &marked);
        assert_eq!(renewed.was, template, "a later mark does not take our values for the template's");
        let idle = Mark::idle("b", at(20), &marked);
        assert_eq!((idle.was.clone(), Mark::of(&idle.annotations())), (template, Some(idle.clone())));
        assert_eq!(idle.annotations()[DELETION_COST], "-2147483648");
        assert_eq!(idle.annotations()[SAFE_TO_EVICT], "false", "the template's value");
        assert!(!idle.annotations().contains_key(DO_NOT_DISRUPT), "its node may go");
    }

    #[test]
    fn text_of_others_is_not_a_mark() {
        for text in ["", "{}", "{\"holder\":1}", "[]"] {
            assert_eq!(Mark::of(&Annotations::from([(OWN.to_owned(), text.to_owned())])), None, "{text}");
        }
    }
}
