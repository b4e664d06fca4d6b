//! The whole bridge inside the test, where its counters can be read.

use std::sync::Arc;

use longhaul::app::{App, End};
use longhaul::config::{self, Features};
use longhaul::telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::within;

pub struct Bridge {
    metrics: Arc<Metrics>,
    drain: CancellationToken,
    task: JoinHandle<End>,
}

impl Bridge {
    /// Starts the same parts as `longhaul run` with this configuration and an empty environment.
    pub async fn start(config: &str) -> Self {
        let nothing = |_: &str| None;
        let loaded = config::load("test.yaml", config, Features::BUILD, &nothing)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let app = App::build(&loaded.config, &nothing).await.unwrap_or_else(|error| panic!("{error}"));
        let (metrics, drain) = (app.metrics(), CancellationToken::new());
        let task = tokio::spawn(app.run(drain.clone()));
        Bridge { metrics, drain, task }
    }

    /// Returns the sum of all samples of this name whose labels contain `label`.
    pub fn count(&self, name: &str, label: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let samples =
            text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        let of_label = samples.filter(|(labels, _)| labels.contains(label));
        of_label.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    pub fn acked(&self) -> u64 {
        self.count("longhaul_items_settled_total", "how=\"ack\"")
    }

    /// Drains, and expects that no item is cut.
    pub async fn stop(self) {
        self.drain.cancel();
        let end = within("the end of the bridge", self.task).await.expect("no panic");
        assert!(matches!(end, End::Drained), "{end:?}");
    }
}
