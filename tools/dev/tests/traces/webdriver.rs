//! A real browser, driven over the WebDriver protocol (W3C): JSON over HTTP to Debian's `chromedriver`, as much of it as these tests
//! need. The browser and its driver end with the test.

use std::{
    io::Write,
    process::{Command as Probe, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

/// The name of a reference to an element, by the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A page of ours is there at once; a machine that is busy may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub struct Browser {
    port: u16,
    session: String,
    /// Killed when this is dropped.
    _driver: Child,
}

impl Browser {
    /// `None` where no browser is installed. That is said where it can be seen, and a failure where it must not happen: in CI.
    pub async fn start() -> Option<Self> {
        for program in ["chromedriver", "chromium"] {
            let found = Probe::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if found.is_ok_and(|status| status.success()) {
                continue;
            }
            let missing = format!("{program} is not installed (Debian: chromium, chromium-driver)");
            assert!(std::env::var_os("CI").is_none(), "the pages cannot be tested in a browser: {missing}");
            // Not eprintln!: what a test that passes prints with that is shown to nobody.
            let said = format!("\nSKIPPED: the pages are not tested in a browser: {missing}\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            return None;
        }
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("chromedriver ended at once");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        let mut browser = Self { port, session: String::new(), _driver: driver };
        let arguments = [
            "--headless=new",
            // Chromium's own sandbox does not work for root, and in many containers.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,1000",
            // It ends when nobody drives it any more.
            "--remote-debugging-pipe",
        ];
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" } });
        let made = browser.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        browser.session = made["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    pub async fn open(&self, url: &str) {
        self.in_session("POST", "url", &json!({ "url": url })).await;
    }

    /// What a JavaScript expression says.
    pub async fn eval(&self, expression: &str) -> Json {
        self.in_session("POST", "execute/sync", &json!({ "script": format!("return {expression}"), "args": [] })).await
    }

    /// The text of an element, whether it is on the screen or would have to be scrolled to.
    pub async fn text(&self, css: &str) -> String {
        let text = self.eval(&format!("document.querySelector({}).textContent", json!(css))).await;
        text.as_str().unwrap().to_owned()
    }

    /// Clicks on what leads to another page, and waits until that is there: a click is over before the browser has left.
    pub async fn follow(&self, css: &str) {
        self.eval("window.isLeft = true").await;
        self.click(css).await;
        let arrived = json!({ "script": "return !window.isLeft && document.readyState === 'complete'", "args": [] });
        let path = format!("/session/{}/execute/sync", self.session);
        let waiting = async {
            // Between two pages there is none to ask: that is an error of the driver, and no answer.
            while self.try_ask("POST", &path, &arrived).await.ok() != Some(json!(true)) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{css} leads nowhere"));
    }

    /// Clicks where a person would.
    pub async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.in_session("POST", &format!("element/{element}/click"), &json!({})).await;
    }

    /// Types into a field.
    pub async fn write(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.in_session("POST", &format!("element/{element}/value"), &json!({ "text": text })).await;
    }

    /// Whether an element is there and can be seen.
    pub async fn sees(&self, css: &str) -> bool {
        let css = json!(css);
        self.eval(&format!("[...document.querySelectorAll({css})].some((element) => element.checkVisibility())")).await
            == json!(true)
    }

    /// Errors of scripts, files that are missing, what the content policy refused.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.in_session("POST", "se/log", &json!({ "type": "browser" })).await;
        let of = |entry: &Json| entry["message"].as_str().unwrap_or_default().to_owned();
        entries.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE").map(of).collect()
    }

    /// Ends the browser.
    pub async fn quit(&self) {
        self.ask("DELETE", &format!("/session/{}", self.session), &Json::Null).await;
    }

    async fn element(&self, css: &str) -> String {
        let found = self.in_session("POST", "element", &json!({ "using": "css selector", "value": css })).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    async fn in_session(&self, method: &str, command: &str, body: &Json) -> Json {
        self.ask(method, &format!("/session/{}/{command}", self.session), body).await
    }

    /// One command; whatever goes wrong ends the test with what the driver says of it.
    async fn ask(&self, method: &str, path: &str, body: &Json) -> Json {
        self.try_ask(method, path, body).await.unwrap_or_else(|error| panic!("{method} {path} {body}: {error}"))
    }

    /// One command; `Err` is what the driver says of it.
    async fn try_ask(&self, method: &str, path: &str, body: &Json) -> Result<Json, Json> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "{method} {path}: cut off");
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.unwrap();
        let value = serde_json::from_slice::<Json>(&answer).unwrap()["value"].take();
        if value.get("error").is_some() { Err(value) } else { Ok(value) }
    }
}
