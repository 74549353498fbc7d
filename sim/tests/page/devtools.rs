//! A browser that is looked at and used through its own debugging protocol, over a pipe: what a person would do
//! with mouse and keyboard.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// How long a browser may take to answer before it is taken for hung.
const PATIENCE: Duration = Duration::from_secs(120);
/// The browser reads commands from descriptor 3 and answers on 4, each message ended by a zero.
const ON_A_PIPE: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null";
const OPTIONS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
];

/// A browser with one page open. It ends with this.
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// What the browser has told without being asked.
    pub events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser whose window has this size, and whose user likes it light or dark.
    pub fn start(width: u32, height: u32, scheme: &str) -> Browser {
        let profile = tempfile::tempdir().expect("a directory for the browser's profile");
        let log = std::fs::File::create(profile.path().join("log")).expect("a log");
        let mut process = Command::new("sh")
            .args(["-c", ON_A_PIPE, "chromium"])
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("a shell");
        let commands = process.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(process.stdout.take().expect("a pipe"));
        let (told, messages) = mpsc::channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let Ok(parsed) = serde_json::from_slice(&message) else {
                    return;
                };
                if told.send(parsed).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Browser {
            process,
            commands,
            messages,
            next: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.command("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.command("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_string);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.command("Emulation.setDeviceMetricsOverride", size);
        let likes = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.command("Emulation.setEmulatedMedia", likes);
        browser
    }

    /// Asks the browser for something, and waits for its answer.
    pub fn command(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut command = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let sent = self.commands.write_all(format!("{command}\0").as_bytes());
        let number = self.next;
        sent.and_then(|()| self.commands.flush()).unwrap_or_else(|why| {
            panic!("{method}: {why}: is chromium there? cargo xtask setup installs it")
        });
        let answer = self.wait(|message| message["id"] == number);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    fn wait(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            let message = message.expect("chromium answers (cargo xtask setup installs it)");
            if is_it(&message) {
                return message;
            }
            self.events.push(message);
        }
    }

    /// Opens a file, at a fragment, and waits until it is there.
    pub fn open(&mut self, file: &Path, fragment: &str) {
        // A change of the fragment alone would load nothing.
        self.load("about:blank");
        self.load(&format!("file://{}{fragment}", file.display()));
        self.drawn();
    }

    fn load(&mut self, url: &str) {
        self.events.clear();
        self.command("Page.navigate", json!({ "url": url }));
        let is_there = |message: &Value| message["method"] == "Page.loadEventFired";
        if !self.events.iter().any(is_there) {
            self.wait(is_there);
        }
    }

    /// What a script on the page comes to.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.command("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until what was asked for is on the screen.
    pub fn drawn(&mut self) {
        self.value(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))",
        );
    }

    /// The text of an element.
    pub fn text(&mut self, id: &str) -> String {
        let text = self.value(&format!("document.getElementById({id:?}).innerText"));
        text.as_str().unwrap_or_default().to_string()
    }

    /// Clicks.
    pub fn click(&mut self, x: f64, y: f64) {
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let mouse = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.command("Input.dispatchMouseEvent", mouse);
        }
        self.drawn();
    }

    /// Clicks on the element that a script names.
    pub fn click_on(&mut self, element: &str) {
        let place = self.value(&format!(
            "(() => {{ const e = {element}; e.scrollIntoView({{ block: 'nearest' }}); \
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ));
        let at = |n: usize| place[n].as_f64().expect("a place");
        self.click(at(0), at(1));
    }

    /// Turns the wheel with the control key held.
    pub fn wheel_with_control(&mut self, x: f64, y: f64, by: f64) {
        let wheel =
            json!({ "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": by, "modifiers": 2 });
        self.command("Input.dispatchMouseEvent", wheel);
        self.drawn();
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.command("Input.dispatchKeyEvent", json!({ "type": kind, "key": key }));
        }
        self.drawn();
    }

    /// Types into whatever has the focus.
    pub fn write(&mut self, text: &str) {
        self.command("Input.insertText", json!({ "text": text }));
        self.drawn();
    }

    /// What the page complained about since it was opened, and what it loaded.
    pub fn troubles(&self) -> Vec<&Value> {
        let is_trouble = |event: &&Value| {
            let method = event["method"].as_str().unwrap_or_default();
            method == "Runtime.exceptionThrown"
                || (method == "Log.entryAdded" && event["params"]["entry"]["level"] == "error")
                || (method == "Runtime.consoleAPICalled" && event["params"]["type"] == "error")
        };
        self.events.iter().filter(is_trouble).collect()
    }

    /// Every address that something was asked for from since the page was opened.
    pub fn requests(&self) -> Vec<&str> {
        let asked = self
            .events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent");
        asked
            .filter_map(|event| event["params"]["request"]["url"].as_str())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
