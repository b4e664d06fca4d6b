//! Chromium without a screen, driven by its DevTools protocol over pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::{Value, json};

use super::DEADLINE;

/// One tab of one browser.
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    last_id: u64,
    /// Everything that the page reported: exceptions, lines of the console, refused loads.
    reports: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Returns None where `LONGHAUL_TEST_CHROMIUM=none` says that the browser is missing.
    /// `tests/run` sets it if the package cannot be installed.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub fn start() -> Option<Self> {
        let program = std::env::var("LONGHAUL_TEST_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        if program == "none" {
            eprintln!("skipped: LONGHAUL_TEST_CHROMIUM=none, so the browser is missing");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        // Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2", &program])
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--hide-scrollbars"])
            .args(["--remote-debugging-pipe", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let (commands, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (tell, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        let (session, reports) = (String::new(), Vec::new());
        let mut browser =
            Browser { process, commands, messages, session, last_id: 0, reports, _profile: profile };
        browser.open();
        Some(browser)
    }

    fn open(&mut self) {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Sends a command and returns its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap_or_else(|error| {
            panic!(
                "{error}: is `chromium` installed? LONGHAUL_TEST_CHROMIUM names another program, or is none"
            )
        });
        loop {
            let message = self
                .messages
                .recv_timeout(DEADLINE)
                .unwrap_or_else(|error| panic!("no answer to {method}: {error}. Is `chromium` installed? LONGHAUL_TEST_CHROMIUM names another program, or is none"));
            if message["id"] == json!(self.last_id) {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            let event = message["method"].as_str().unwrap_or_default();
            if matches!(event, "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded") {
                self.reports.push(message["params"].clone());
            }
        }
    }

    pub fn visit(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    pub fn resize(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    pub fn text(&mut self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        let started = Instant::now();
        while self.value(expression) != json!(true) {
            if started.elapsed() > DEADLINE {
                let shown = self.text("document.body.innerText.slice(0, 3000)");
                panic!("not within {DEADLINE:?}: {expression}\n{:?}\n{shown}", self.reports);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Presses and releases a key, such as `Tab`, `Enter`, ` ` or `a`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            " " => 32,
            _ => 0,
        };
        let text = match key {
            "Enter" => "\r",
            "Tab" | "Escape" => "",
            other => other,
        };
        let mut event = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code });
        if !text.is_empty() {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event.clone());
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", event);
    }

    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Writes a picture of the page into the folder of `LONGHAUL_TEST_SCREENSHOTS`, if it is set.
    pub fn picture(&mut self, name: &str) {
        use base64::Engine;
        let Ok(folder) = std::env::var("LONGHAUL_TEST_SCREENSHOTS") else { return };
        let picture = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap());
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), bytes.unwrap()).unwrap();
    }

    /// What the page reported, without the answers that the browser calls failed loads.
    pub fn complaints(&self) -> Vec<&Value> {
        self.reports.iter().filter(|report| report["entry"]["source"] != json!("network")).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends its own processes when it is told to, or when its pipe closes.
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let started = Instant::now();
        while started.elapsed() < std::time::Duration::from_secs(10) {
            if self.process.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
