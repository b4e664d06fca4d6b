//! The live page in a real browser, with a real bridge and a real broker behind it.

use lapin::BasicProperties;
use longhaul::config::QueueKind;
use serde_json::{Value, json};

use crate::api::Admin;
use crate::run::backlog::{Backlog, Kafka};
use crate::run::config;
use crate::support::browser::Browser;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::scripted::{BAD, Scripted};
use crate::support::worker::Worker;

/// An id that would run a script if the page made HTML of it.
const HOSTILE: &str = "<img src=x onerror=\"document.title='hacked'\">";
const TOKEN: &str = "token-of-the-page-test";
/// Two pages of items.
const GOOD: usize = 120;

/// Each visible text whose contrast with its background is below WCAG AA, disabled controls left
/// out.
const LOW_CONTRAST: &str = r#"(() => {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || element.closest('svg, script, style, noscript, :disabled') || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) bad.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return bad;
})()"#;

/// The element that has the focus: its text or label, and whether the focus can be seen.
const FOCUS: &str = r#"(() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const isSeen = element === document.body || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2);
  return { name: (element.getAttribute('aria-label') || element.textContent || element.id).trim().slice(0, 60), id: element.id, isSeen };
})()"#;

/// Presses Tab until the wanted element has the focus, which must be visible at each stop.
fn tab_to(browser: &mut Browser, is_wanted: impl Fn(&Value) -> bool) {
    let mut passed = Vec::new();
    for _ in 0..200 {
        browser.press("Tab");
        let focus = browser.value(FOCUS);
        assert_eq!(focus["isSeen"], json!(true), "the focus cannot be seen: {focus}");
        if is_wanted(&focus) {
            return;
        }
        passed.push(focus["name"].clone());
    }
    panic!("Tab does not come there: {passed:?}");
}

fn starts(prefix: &str) -> impl Fn(&Value) -> bool {
    move |focus| focus["name"].as_str().is_some_and(|name| name.starts_with(prefix))
}

async fn publish(queue: &Queue, id: &str, body: &str) {
    queue.publish(body.as_bytes(), BasicProperties::default().with_message_id(id.into())).await;
}

/// The numbers of the API, which the page must show.
async fn count(url: &str, state: &str) -> u64 {
    let text = crate::support::get(format!("{url}/api/v1/pipelines")).await.unwrap().text().await.unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    list["pipelines"][0]["counts"][state].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_items_and_acts_on_them_with_the_keyboard_alone() {
    let Some(mut browser) = Browser::start() else { return };
    let queue = Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await;
    let worker = Scripted::start().await;
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{admin}");
    for (id, body) in [("slow-1", "slow"), ("slow-2", "slow"), (HOSTILE, "bad"), ("bad-2", "bad")] {
        publish(&queue, id, body).await;
    }
    for number in 0..GOOD {
        publish(&queue, &format!("file-{number:03}.csv"), "good").await;
    }
    let bridge = Longhaul::run(&format!(
        "pipelines:\n  - name: files\n    source: {{ rabbitmq: {{ url: \"{}\", queue: {} }} }}\n    \
         sink: {{ url: \"{}\" }}\n    max_in_flight: 20\n    limits: {{ held_max: 10 }}\n\
         admin: {{ listen: \"{admin}\", token: {TOKEN} }}\n",
        queue.url, queue.name, worker.url
    ));
    eventually("the first items to be done", async || {
        let there = crate::support::get(format!("{url}/livez")).await.is_ok();
        there && count(&url, "held").await == 2 && count(&url, "done").await == GOOD as u64
    })
    .await;

    browser.resize(1440, 900, "light");
    browser.visit(&format!("{url}/"));
    shows_everything(&mut browser, &url).await;
    filters_and_shows_one_item(&mut browser);
    drops_two_items(&mut browser, &url).await;
    follows_changes(&mut browser, &worker);
    fits_and_can_be_read(&mut browser, "page");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    // Without the bridge the page says since when it knows nothing.
    bridge.stop().await;
    browser.until("!byId('lost').hidden && byId('lost').textContent.startsWith('Connection lost since ')");
    assert_eq!(browser.text("byId('connection').dataset.state"), "lost");
    queue.delete().await;
}

/// A partition is paused, and a record of the other one is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_acts_on_kafka_partitions_with_the_keyboard_alone() {
    let Some(mut browser) = Browser::start() else { return };
    let (backlog, graveyard) = (Kafka::with_partitions(2).await, Kafka::create().await);
    let topic = backlog.0.name.clone();
    backlog.spread(0..4, 2).await;
    let worker = Worker::held().await;
    let admin = Admin::free();
    let more =
        format!("    dead_letter: {}\n{}", graveyard.target(), admin.config(&format!(", token: {TOKEN}")));
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
    eventually("all requests", async || worker.log().open == 4).await;
    browser.resize(1440, 900, "light");
    browser.visit(&format!("http://{}/", admin.0));
    let row = |number: usize| format!("byId('partition-rows')?.children[{number}]");
    browser.until(&format!("typeof byId === 'function' && {}?.cells[1].textContent === '0'", row(1)));
    tab_to(&mut browser, starts(&format!("Pause partition {topic}/1")));
    browser.press("Enter");
    browser.until("byId('token-dialog').open");
    browser.type_text(TOKEN);
    browser.press("Enter");
    // Paused partitions come first.
    browser.until(&format!("{}.innerText.startsWith('{topic}/1 paused')", row(0)));
    assert_eq!(admin.pipeline().await["paused_partitions"], json!([format!("{topic}/1")]));

    tab_to(&mut browser, starts(&format!("Skip a record of partition {topic}/0")));
    browser.press("Enter");
    browser.until("byId('confirm-dialog').open && document.activeElement === byId('number') && byId('number').value === '0'");
    assert_eq!(browser.text("byId('then').value"), "dead-letter");
    browser.picture("skip-dialog");
    browser.press("Enter");
    browser.until(&format!("byId('toast').textContent.includes('{topic}/0/0 is dead-lettered')"));
    assert_eq!(browser.value("byId('confirm-dialog').open"), json!(false), "the key is used once");
    // The record behind it is the first unfinished one now.
    browser.until(&format!("{}.cells[1].textContent === '1'", row(1)));
    fits_and_can_be_read(&mut browser, "kafka");
    browser.resize(1440, 900, "light");
    tab_to(&mut browser, starts(&format!("Resume partition {topic}/1")));
    browser.press("Enter");
    browser.until("byId('partition-rows').querySelectorAll('.badge:not([hidden])').length === 0");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    worker.release_all();
    eventually("the other items", async || admin.total("done").await == 3).await;
    bridge.stop().await;
    backlog.remove().await;
    graveyard.remove().await;
}

async fn shows_everything(browser: &mut Browser, url: &str) {
    browser.until("typeof byId === 'function' && document.querySelectorAll('#rows tr').length === 100");
    browser.until("byId('connection').dataset.state === 'live'");
    assert_eq!(browser.text("byId('page-text').textContent"), "1 to 100 of 124");
    assert!(browser.text("byId('sentence').textContent").starts_with("120 done"));
    for state in ["running", "held", "done"] {
        let shown = browser.text(&format!(
            "[...document.querySelectorAll('.chip')].find((chip) => chip.textContent.startsWith('{state}')).querySelector('b').textContent"
        ));
        assert_eq!(shown, count(url, state).await.to_string(), "{state}");
    }
    // The hostile id is a text, and nothing of it became an element.
    let ids = "[...document.querySelectorAll('#rows .id')].map((cell) => cell.textContent)";
    assert!(browser.value(ids).as_array().unwrap().contains(&json!(HOSTILE)));
    assert_eq!(browser.value("document.querySelectorAll('img').length"), json!(0));
    assert!(browser.text("document.title").ends_with("longhaul"));
}

fn filters_and_shows_one_item(browser: &mut Browser) {
    tab_to(browser, starts("held"));
    browser.press(" ");
    browser.until("document.querySelectorAll('#rows tr').length === 2");
    tab_to(browser, |focus| focus["name"] == json!(HOSTILE));
    browser.press("Enter");
    browser.until("byId('item-dialog').open && byId('item-log').textContent !== ''");
    let text = browser.text("byId('item-dialog').innerText");
    for part in [HOSTILE, "rejected", "400", BAD, "delivery tag"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(browser.value("document.querySelectorAll('img, #item-dialog pre b').length"), json!(0));
    browser.press("Escape");
    browser.until("!byId('item-dialog').open");
    assert_eq!(browser.value(FOCUS)["name"], json!(HOSTILE), "the focus is back where it was");
}

async fn drops_two_items(browser: &mut Browser, url: &str) {
    // Round through the whole page to the box in the head of the table: the focus is never trapped.
    tab_to(browser, |focus| focus["id"] == json!("pick-page"));
    browser.press(" ");
    browser.until("byId('scope').textContent === '2 items selected'");
    tab_to(browser, starts("Drop"));
    browser.press("Enter");
    // The bridge wants a token, and the page asks for it once.
    browser.until("byId('token-dialog').open");
    browser.type_text(TOKEN);
    browser.press("Enter");
    browser.until("byId('confirm-dialog').open");
    assert_eq!(browser.text("byId('confirm-effect').textContent"), "This changes 2 of 2 items.");
    assert_eq!(count(url, "held").await, 2, "a dry run changes nothing");
    tab_to(browser, |focus| focus["id"] == json!("confirm-yes"));
    browser.press("Enter");
    browser.until("document.querySelectorAll('#rows tr').length === 0");
    browser.until("byId('toast').textContent.includes('2 of 2 items dropped')");
    assert_eq!((count(url, "held").await, count(url, "dropped").await), (0, 2));
    let kept = browser.value("[sessionStorage.length, localStorage.length, document.cookie]");
    assert_eq!(kept, json!([1, 0, ""]), "the token is in the session storage only");
}

/// A change that is made elsewhere shows without a reload.
fn follows_changes(browser: &mut Browser, worker: &Scripted) {
    tab_to(browser, starts("Show all"));
    browser.press("Enter");
    browser.until("byId('page-text').textContent === '1 to 100 of 124'");
    worker.release_all();
    browser.until("byId('sentence').textContent.startsWith('122 done')");
    browser.until(
        "![...document.querySelectorAll('#rows .badge')].some((badge) => badge.textContent === 'running')",
    );
    tab_to(browser, starts("Skip the items"));
    browser.press("Enter");
    tab_to(browser, starts("Next page"));
    browser.press("Enter");
    browser.until("byId('page-text').textContent === '101 to 124 of 124'");
}

fn fits_and_can_be_read(browser: &mut Browser, name: &str) {
    for (width, height) in [(1440, 900), (390, 844)] {
        for scheme in ["light", "dark"] {
            browser.resize(width, height, scheme);
            browser.until(&format!(
                "matchMedia('(prefers-color-scheme: {scheme})').matches && innerWidth === {width}"
            ));
            let wide = browser.value("document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(u64::from(width)), "{wide} is wider than {width}");
            assert_eq!(browser.value(LOW_CONTRAST), json!([]), "contrast at {width}, {scheme}");
            browser.picture(&format!("{name}-{width}-{scheme}"));
        }
    }
    // Charts have a name and a description; tables and controls have theirs from the markup.
    let described = "[...document.querySelectorAll('svg[role=img]')].every((svg) => svg.querySelector('title').textContent && svg.querySelector('desc').textContent)";
    assert_eq!(browser.value(described), json!(true));
}
