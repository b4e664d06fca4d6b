//! Tests the service on a paused clock, with workers inside this process and without a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::engine::Engine;
use super::request::{self, Cut};
use super::settings::{Program, Settings};
use crate::manifest;

mod behaviour;
mod recorded;

const CONFIG_MAP: &str = "
kind: ConfigMap
metadata: { name: config-autoscaler }
data: { allow-zero-initial-scale: \"true\", initial-scale: \"0\", KEYS }
";

/// Returns a service with these `spec` lines and these annotations, written without their group.
fn settings(spec: &str, annotations: &[(&str, &str)], keys: &str, program: Program) -> Settings {
    let lines: String = annotations
        .iter()
        .map(|(name, value)| format!("        autoscaling.knative.dev/{name}: \"{value}\"\n"))
        .collect();
    let text = format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{ name: hello }}\nspec:\n  template:\n    metadata:\n      annotations:\n        a: b\n{lines}    spec:\n{spec}      containers: [{{ image: hello }}]\n"
    );
    let config_map = CONFIG_MAP.replace("KEYS", keys);
    let loaded = manifest::load(("service", &text), Some(("cluster", &config_map)));
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}\n{text}"));
    Settings { cold_start: Duration::from_secs(1), ..Settings::new(loaded.service, program) }
}

/// Works for as many seconds as the body says.
fn sleeper() -> Program {
    Program::BuiltIn(Arc::new(|request: Request| async {
        let body = axum::body::to_bytes(request.into_body(), 1 << 10).await.unwrap();
        let seconds: f64 = std::str::from_utf8(&body).unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Response::new(Body::from("done"))
    }))
}

/// A running service without its listener.
struct World {
    engine: Arc<Engine>,
    driver: JoinHandle<()>,
}

impl World {
    fn start(settings: Settings) -> Self {
        let engine = Engine::new(settings).unwrap();
        let driver = tokio::spawn(Arc::clone(&engine).drive());
        World { engine, driver }
    }

    /// Sends a request that takes this many seconds. Returns the answer that the client sees.
    fn send(&self, seconds: f64) -> JoinHandle<(u16, String)> {
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move {
            let request = Request::new(Body::from(seconds.to_string()));
            read(request::hold(engine, request).await).await
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.engine.kill();
        self.driver.abort();
    }
}

async fn read(response: Result<Response, Cut>) -> (u16, String) {
    let response = response.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Waits for a condition on the counts, at most this many seconds of the paused clock.
async fn until(
    world: &World,
    seconds: u64,
    what: &str,
    condition: impl FnMut(&crate::service::Counts) -> bool,
) -> Duration {
    let begun = Instant::now();
    let mut counts = world.engine.counts();
    let reached = tokio::time::timeout(Duration::from_secs(seconds), counts.wait_for(condition)).await;
    if reached.is_err() {
        panic!("not within {seconds} s: {what}; {:?}", world.engine.snapshot());
    }
    begun.elapsed()
}
