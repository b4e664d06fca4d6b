//! Questions and answers as they go over the wire, as JSON. Members that are not known are ignored, so that replicas of
//! two versions can talk during a rollout.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where questions are sent to, by POST.
pub(super) const PATH: &str = "/api/v1/peers/question";

/// A question is a few names; nobody needs more.
pub(super) const QUESTION_BYTES: usize = 16 * 1024;

/// A verdict has a worker's answer in it, and a list of offsets in flight has at most 10,000 entries.
pub(super) const ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// One process of the bridge. Random, since a replica cannot know under which of many addresses others find it: it
/// knows itself by this name in an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instance(String);

/// "I was handed this item. Have you got its result, or will you?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub pipeline: String,
    pub asker: Instance,
    /// The delivery that the result is for: unique among the asker's. Together they make the question idempotent.
    pub delivery: String,
    /// What both replicas know the item by.
    pub identity: String,
    /// How long to hold the question while the request runs. With 0 the answer is given at once.
    pub wait_seconds: u64,
}

/// "Which offsets of this partition are in your hands?" They run there, or have ended and are not committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    pub pipeline: String,
    pub asker: Instance,
    pub topic: String,
    pub partition: i32,
}

/// "I drain. Do you stay, and go on with this pipeline?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    pub pipeline: String,
    pub asker: Instance,
}

/// "What you reserved for this delivery is not needed." Also sent where nobody knows whether anything was reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub pipeline: String,
    pub asker: Instance,
    pub delivery: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "kebab-case")]
pub(super) enum Question {
    Claim(Claim),
    InFlight(InFlight),
    Release(Release),
    Stay(Stay),
}

/// An answer, and who gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reply {
    pub instance: Instance,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The item runs here, in a session that lives.
    NotYours,
    /// Nothing is known of it.
    Unknown,
    /// It runs here without a delivery; ask again for its end.
    Running,
    Finished {
        verdict: Value,
    },
    InFlight {
        offsets: Vec<i64>,
    },
    Released,
    Staying,
    /// It drains too, or has no such pipeline.
    Leaving,
}

impl Instance {
    pub fn random() -> Self {
        Instance(uuid::Uuid::new_v4().to_string())
    }
}

impl Question {
    pub fn asker(&self) -> &Instance {
        match self {
            Question::Claim(Claim { asker, .. })
            | Question::InFlight(InFlight { asker, .. })
            | Question::Release(Release { asker, .. })
            | Question::Stay(Stay { asker, .. }) => asker,
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas of other versions read and write these very texts.
    #[test]
    fn the_texts_are_as_agreed() {
        let asker = Instance("a".to_owned());
        let claim = Claim {
            pipeline: "p".into(),
            asker: asker.clone(),
            delivery: "d".into(),
            identity: "i".into(),
            wait_seconds: 20,
        };
        let in_flight =
            InFlight { pipeline: "p".into(), asker: asker.clone(), topic: "t".into(), partition: 3 };
        let release = Release { pipeline: "p".into(), asker: asker.clone(), delivery: "d".into() };
        let stay = Stay { pipeline: "p".into(), asker: asker.clone() };
        let questions = [
            (
                Question::Claim(claim),
                r#"{"question":"claim","pipeline":"p","asker":"a","delivery":"d","identity":"i","wait_seconds":20}"#,
            ),
            (
                Question::InFlight(in_flight),
                r#"{"question":"in-flight","pipeline":"p","asker":"a","topic":"t","partition":3}"#,
            ),
            (
                Question::Release(release),
                r#"{"question":"release","pipeline":"p","asker":"a","delivery":"d"}"#,
            ),
            (Question::Stay(stay), r#"{"question":"stay","pipeline":"p","asker":"a"}"#),
        ];
        for (question, text) in questions {
            assert_eq!(serde_json::to_string(&question).unwrap(), text);
            assert_eq!(serde_json::from_str::<Question>(text).unwrap(), question);
        }
        let reply = Reply { instance: asker, answer: Answer::Finished { verdict: serde_json::json!([1]) } };
        let text = r#"{"instance":"a","answer":{"answer":"finished","verdict":[1]}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        let newer = text.replace("[1]", "[1],\"more\":0");
        assert_eq!(serde_json::from_str::<Reply>(&newer).unwrap(), reply);
    }
}
