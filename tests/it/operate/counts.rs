//! The API, the live page, `top`, `ps` and the metrics show the counts of an oracle: the service
//! itself, which knows what it answered. The items fail, are tried again, dead-lettered and
//! cancelled, and the broker goes away in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use longhaul::config::QueueKind;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::api::{Admin, path_of};
use crate::kafka::support::{Broker, Relayed};
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config_of;
use crate::support::broker::OwnRabbitmq;
use crate::support::browser::Browser;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::relay::Relay;
use crate::support::{eventually, is_full_size};

/// The service. The tenth of an item's number chooses its fate.
struct Oracle {
    url: String,
    seen: Arc<Mutex<Seen>>,
    gate: Arc<Semaphore>,
}

/// The bodies by the answer that they got, and the open requests of slow items.
#[derive(Clone, Default)]
struct Seen {
    accepted: BTreeSet<Vec<u8>>,
    rejected: BTreeSet<Vec<u8>>,
    /// Failed in the last attempt.
    broken: BTreeSet<Vec<u8>>,
    slow: u64,
}

/// The counts that everybody must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    running: u64,
    done: u64,
    dead_lettered: u64,
    dropped: u64,
}

const ATTEMPTS: u32 = 2;

impl Oracle {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (seen, gate) = (Arc::<Mutex<Seen>>::default(), Arc::new(Semaphore::new(0)));
        let shared = (seen.clone(), gate.clone());
        let router = Router::new().fallback(move |request: Request| work(shared.clone(), request));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Oracle { url, seen, gate }
    }

    fn counts(&self, dropped: u64) -> Counts {
        let seen = self.seen.lock().unwrap();
        Counts {
            running: seen.slow,
            done: seen.accepted.len() as u64,
            dead_lettered: (seen.rejected.len() + seen.broken.len()) as u64,
            dropped,
        }
    }
}

/// Counts an open request of a slow item, however it ends.
struct Slow(Arc<Mutex<Seen>>);

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.lock().unwrap().slow -= 1;
    }
}

async fn work((seen, gate): (Arc<Mutex<Seen>>, Arc<Semaphore>), request: Request) -> Response {
    let attempt: u32 = request.headers()["ce-attempt"].to_str().unwrap().parse().unwrap();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap().to_vec();
    let fate = body.last().copied().unwrap_or_default();
    if fate == b'9' {
        seen.lock().unwrap().slow += 1;
        let _slow = Slow(seen.clone());
        // A closed gate is the permission to end.
        let _ = gate.acquire().await;
    }
    let mut seen = seen.lock().unwrap();
    match fate {
        b'8' => {
            seen.rejected.insert(body);
            StatusCode::UNPROCESSABLE_ENTITY
        }
        b'7' => {
            if attempt >= ATTEMPTS {
                seen.broken.insert(body);
            }
            StatusCode::INTERNAL_SERVER_ERROR
        }
        b'5' | b'6' if attempt == 1 => StatusCode::BAD_GATEWAY,
        _ => {
            seen.accepted.insert(body);
            StatusCode::OK
        }
    }
    .into_response()
}

/// The program beside its oracle, and how to look at it.
struct Scene {
    oracle: Oracle,
    bridge: Longhaul,
    admin: Admin,
    browser: Option<Browser>,
    items: u64,
}

impl Scene {
    async fn start(source: &str, graveyard: &str, items: u64) -> Self {
        let (oracle, admin) = (Oracle::start().await, Admin::free());
        // All slow items run at once, and others beside them.
        let slots = items / 10 + 10;
        let more = format!(
            "    breaker: {{ failures: 0 }}\n    retry: {{ attempts: {ATTEMPTS}, backoff: 10ms, backoff_max: 10ms, unknown_backoff: 10ms }}\n    dead_letter: {graveyard}\n{}",
            admin.config("")
        );
        let bridge = Longhaul::run(&config_of(source, &oracle.url, slots as usize, &more));
        Scene { oracle, bridge, admin, browser: Browser::start(), items }
    }

    /// While the items move, no view may be ahead of the oracle, or count an item twice.
    async fn is_never_ahead(&self, until_done: u64) {
        eventually(&format!("{until_done} items to be done"), async || {
            let shown = self.api().await;
            let known = self.oracle.counts(0);
            assert!(
                shown.done <= known.done && shown.dead_lettered <= known.dead_lettered,
                "{shown:?} {known:?}"
            );
            assert!(shown.done + shown.dead_lettered + shown.running <= self.items, "{shown:?}");
            shown.done >= until_done
        })
        .await;
    }

    async fn api(&self) -> Counts {
        counts_of(&self.admin.pipeline().await["counts"])
    }

    /// When nothing moves, all views are equal.
    async fn all_show(&mut self, expected: Counts) {
        eventually(&format!("the oracle to know {expected:?}"), async || {
            self.oracle.counts(expected.dropped) == expected
        })
        .await;
        eventually(&format!("the API to show {expected:?}"), async || self.api().await == expected).await;
        assert_eq!(self.metrics().await, expected, "metrics");
        let url = format!("http://{}", self.admin.0);
        let listed = super::json(&url, &["ps", "test"]).await;
        assert_eq!(counts_of(&listed["counts"]), expected, "ps");
        top_shows(&url, expected).await;
        if let Some(browser) = &mut self.browser {
            page_shows(browser, &url, expected);
        }
    }

    /// The same numbers from `/metrics`, and the requests by outcome.
    async fn metrics(&self) -> Counts {
        let text = self.admin.metrics().await;
        let sum = |name: &str, label: &str| -> u64 {
            let lines =
                text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
            lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
        };
        let finished = |end: &str| sum("longhaul_items_finished_total", &format!("end=\"{end}\""));
        let dead_lettered = finished("dead-lettered");
        assert_eq!(sum("longhaul_items_dead_lettered_total", ""), dead_lettered);
        assert_eq!(sum("longhaul_attempts_total", "outcome=\"done\""), finished("done"), "{text}");
        assert_eq!(sum("longhaul_attempts_total", "code=\"422\""), self.items / 10);
        assert_eq!(sum("longhaul_attempts_total", "outcome=\"cancelled\""), finished("dropped"));
        let running = sum("longhaul_items", "state=\"running\"");
        assert_eq!(sum("longhaul_items_in_flight", ""), running);
        Counts { running, done: finished("done"), dead_lettered, dropped: finished("dropped") }
    }
}

fn counts_of(counts: &Value) -> Counts {
    let of = |state: &str| counts[state].as_u64().unwrap_or(u64::MAX);
    Counts {
        running: of("running"),
        done: of("done"),
        dead_lettered: of("dead-lettered"),
        dropped: of("dropped"),
    }
}

/// The states with items, as `top` and the page show them.
fn shown(expected: Counts) -> BTreeMap<&'static str, u64> {
    let Counts { running, done, dead_lettered, dropped } = expected;
    let all = [("running", running), ("done", done), ("dead-lettered", dead_lettered), ("dropped", dropped)];
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Runs `top` in a terminal of 40 lines, until its screen shows the counts.
async fn top_shows(url: &str, expected: Counts) {
    let program = env!("CARGO_BIN_EXE_longhaul");
    let command = format!("stty rows 40 cols 160; exec {program} top --url {url}");
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("TERM", "xterm-256color");
    let mut process =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let screen = Arc::new(Mutex::new(vt100::Parser::new(40, 160, 0)));
    let (mut output, drawn) = (process.stdout.take().unwrap(), screen.clone());
    let reading = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            drawn.lock().unwrap().process(&buffer[..count]);
        }
    });
    eventually(&format!("top to show {expected:?}"), async || {
        let text = screen.lock().unwrap().screen().contents();
        shown(expected).iter().all(|(state, count)| match *state {
            "done" => text.contains(&format!("{count} done")),
            "running" => text.contains(&format!("in flight {count} of")),
            state => text.contains(&format!("{state} {count}")),
        })
    })
    .await;
    // It ends with its terminal.
    process.kill().unwrap();
    process.wait().unwrap();
    reading.join().unwrap();
}

fn page_shows(browser: &mut Browser, url: &str, expected: Counts) {
    browser.visit(&format!("{url}/"));
    browser.until("typeof byId === 'function' && byId('connection').dataset.state === 'live'");
    for (state, count) in shown(expected) {
        browser.until(&format!(
            "[...document.querySelectorAll('.chip')].some((chip) => chip.textContent.startsWith('{state}') && chip.querySelector('b').textContent === '{count}')"
        ));
    }
}

/// Runs the whole course. `away` takes the broker away and brings it back.
async fn all_views_are_equal(mut scene: Scene, away: impl AsyncFnOnce()) {
    let tenth = scene.items / 10;
    scene.is_never_ahead(2 * tenth).await;
    away().await;
    scene.is_never_ahead(7 * tenth).await;
    let middle = Counts { running: tenth, done: 7 * tenth, dead_lettered: 2 * tenth, dropped: 0 };
    scene.all_show(middle).await;

    let (_, list) = scene.admin.get("/api/v1/pipelines/test/items?state=running&limit=1000").await;
    let cancelled = tenth / 2;
    for item in &list["items"].as_array().unwrap()[..cancelled as usize] {
        let (_, matched) = scene.admin.post(&format!("{}/cancel?then=drop", path_of(item))).await;
        assert_eq!(matched["changed"].as_u64(), Some(1), "{item}");
    }
    let after = Counts { running: tenth - cancelled, dropped: cancelled, ..middle };
    scene.all_show(after).await;
    scene.oracle.gate.close();
    scene.all_show(Counts { running: 0, done: middle.done + after.running, ..after }).await;
    scene.bridge.stop().await;
}

fn items() -> u64 {
    if is_full_size() { 500 } else { 60 }
}

fn bodies() -> impl Iterator<Item = Vec<u8>> {
    (0..items()).map(|number| format!("item {number}").into_bytes())
}

/// The broker restarts in an acceptance run. Otherwise only its connections are cut.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_all_views_are_equal() {
    let own = is_full_size().then(|| OwnRabbitmq::start("rabbitmq-4"));
    let url = own.as_ref().map_or_else(|| amqp::brokers()[0].clone(), |own| own.url.clone());
    let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
    let graveyard = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
    backlog.fill(bodies()).await;
    let relay = Relay::start(amqp::address(&url)).await;
    let source = backlog.source_at(&amqp::through(&url, relay.port()));
    let scene = Scene::start(&source, &graveyard.target(), items()).await;
    let away = async || {
        relay.cut_all();
        if let Some(own) = &own {
            own.ctl(&["stop"]).await;
            own.ctl(&["start"]).await;
        }
    };
    all_views_are_equal(scene, away).await;
    let (backlog, graveyard) = (backlog.again(&url).await, graveyard.again(&url).await);
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    assert_eq!(graveyard.left().await, items() / 5);
    backlog.remove().await;
    graveyard.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_all_views_are_equal() {
    let Some(relayed) = Relayed::start("counts").await else { return };
    let Relayed { broker, direct, relay, .. } = &relayed;
    direct.create_topic(&direct.name, 1).await;
    let (backlog, graveyard) = (Kafka(direct.clone()), Kafka(Broker::real("counts-dead")));
    graveyard.0.create_topic(&graveyard.0.name, 1).await;
    backlog.fill(bodies()).await;
    let scene = Scene::start(&Kafka(broker.clone()).source(), &graveyard.target(), items()).await;
    all_views_are_equal(scene, async || relay.cut_all()).await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    assert_eq!(graveyard.left().await, items() / 5);
    backlog.remove().await;
    graveyard.remove().await;
}
