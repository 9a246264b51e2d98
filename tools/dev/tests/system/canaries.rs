//! Somebody with an address, a name and secrets that are found nowhere else does everything that can be done in the shop, mistakes included.
//! Then nothing that people look at to see how the shop is doing holds any of it, and no service but those that must.

use std::collections::BTreeSet;

use base64::Engine as _;
use dev::{
    http::{self, Answer, Method},
    shop::{Mail, Person, Shop},
    stack::{Stack, Tapped},
};
use serde_json::{Value, json};

use crate::eventually;

const EMAIL: &str = "canary-7f3e91@example.test";
const NAME: &str = "Quokka Zephyrine";
const OTHER_NAME: &str = "Numbat Zephyrine";
const PASSWORD: &str = "swift umbrella 61 canary-pass";
const OTHER_PASSWORD: &str = "quiet umbrella 74 canary-pass";
const WRONG_PASSWORD: &str = "other umbrella 99 canary-pass";
const SKU: &str = "CANARY-01";

/// Services that hold addresses and names, because it is their work. Nobody holds a password or a token.
const HOLD_ADDRESSES: [&str; 2] = ["users", "notifications"];

pub(crate) async fn all(stack: &Stack) {
    what_is_looked_for_is_found_in_every_form();
    stack.tap().await.unwrap();
    put_obstacles_in_the_way(stack).await;
    let mut visit = Visit::new(stack);
    visit.live_a_whole_life().await;
    let places = places(stack, &visit).await;
    take_obstacles_away(stack).await;

    // A scan that looks at nothing finds nothing: what is no secret is to be found in all of these.
    let found = |value: &str| -> BTreeSet<&str> {
        let known = Canary { what: "no secret", value: value.to_owned(), personal: false };
        places.iter().filter(|place| found_in(&known, &place.text)).map(|place| place.kind).collect()
    };
    let mut seen = found(&visit.id);
    seen.extend(visit.traces.iter().flat_map(|trace| found(trace)).filter(|kind| ["log", "error"].contains(kind)));
    seen.extend(found("/users/me").into_iter().filter(|kind| *kind == "metrics"));
    let wanted =
        BTreeSet::from(["span", "database", "dead letter", "message header", "message", "log", "metrics", "error"]);
    assert_eq!(seen, wanted, "the scan does not see everything");

    let mut leaks = Vec::new();
    for canary in visit.canaries() {
        for place in &places {
            let allowed = canary.personal && place.holds_addresses;
            if !allowed && found_in(&canary, &place.text) {
                leaks.push(format!("the {} is in the {} {}", canary.what, place.kind, place.name));
            }
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// Something that must not be seen.
struct Canary {
    what: &'static str,
    value: String,
    /// Services whose work it is hold it.
    personal: bool,
}

/// A text in which it must not be seen.
struct Place {
    kind: &'static str,
    name: String,
    text: String,
    holds_addresses: bool,
}

impl Place {
    fn new(kind: &'static str, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, name: name.into(), text: text.into(), holds_addresses: false }
    }
}

fn found_in(canary: &Canary, text: &str) -> bool {
    let text = text.to_lowercase();
    forms(&canary.value).iter().any(|form| text.contains(&form.to_lowercase()))
}

/// As it is, percent-encoded, in hexadecimal digits, as a list of bytes, and in base64 wherever it begins.
fn forms(value: &str) -> Vec<String> {
    let percent = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let mut forms = vec![
        value.to_owned(),
        value.bytes().map(percent).collect(),
        value.replace(' ', "+"),
        value.bytes().map(|byte| format!("{byte:02x}")).collect(),
        format!("{:?}", value.as_bytes()).trim_matches(['[', ']']).to_owned(),
    ];
    for before in 0..3 {
        let bytes: Vec<u8> = vec![0; before].into_iter().chain(value.bytes()).collect();
        let whole = bytes.len() / 3 * 3;
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&bytes[..whole]);
        // The first characters hold bits of what stands before.
        let ours = encoded[[0, 2, 3][before]..].to_owned();
        forms.push(ours.replace('+', "-").replace('/', "_"));
        forms.push(ours);
    }
    forms
}

fn what_is_looked_for_is_found_in_every_form() {
    let canary = Canary { what: "address", value: EMAIL.to_owned(), personal: true };
    for before in ["", "a", "ab", "abc"] {
        let hidden = base64::engine::general_purpose::STANDARD.encode(format!("{before}{EMAIL} and more"));
        assert!(found_in(&canary, &format!("x {hidden} y")), "{before}");
    }
    assert!(found_in(&canary, "to=canary-7f3e91%40example.test"));
    assert!(found_in(&canary, &format!("\\x00{}ff", EMAIL.bytes().map(|b| format!("{b:02x}")).collect::<String>())));
    assert!(found_in(&canary, &format!("{:?}", format!("to {EMAIL}!").as_bytes())));
    assert!(found_in(&canary, &EMAIL.to_uppercase()));
    assert!(!found_in(&canary, "canary-7f3e92@example.test"));
}

/// What services keep of an account, and what says there that it was deleted.
const OF_ACCOUNTS: [(&str, &str, &str); 2] =
    [("orders", "customers", "deleted_at"), ("notifications", "recipients", "forgotten_at")];

/// The end of the account becomes a dead letter, in a service that may know the address and in one that may not.
async fn put_obstacles_in_the_way(stack: &Stack) {
    for (service, table, gone) in OF_ACCOUNTS {
        // As PostgreSQL refuses an id that the inbox has no place for, which no later attempt mends.
        let obstacle = format!(
            "create function refuse() returns trigger language plpgsql security definer as $$
             begin
                 raise exception 'never, for a test' using errcode = '23514', table = 'inbox';
             end $$;
             create trigger refuse before update on {table}
                 for each row when (new.{gone} is not null) execute function refuse();"
        );
        stack.run_sql(service, &obstacle).await.unwrap();
    }
}

async fn take_obstacles_away(stack: &Stack) {
    for (service, ..) in OF_ACCOUNTS {
        stack.run_sql(service, "drop function refuse cascade; delete from messaging.parked;").await.unwrap();
    }
}

/// What somebody does in the shop, and what they hear.
struct Visit<'a> {
    stack: &'a Stack,
    shop: Shop,
    id: String,
    /// Tokens and the like, with what they are.
    secrets: Vec<(&'static str, String)>,
    /// Of every request.
    traces: BTreeSet<String>,
    /// Answers that say that something is wrong.
    errors: Vec<(String, String)>,
}

impl<'a> Visit<'a> {
    fn new(stack: &'a Stack) -> Self {
        let shop = stack.shop();
        Self { stack, shop, id: String::new(), secrets: Vec::new(), traces: BTreeSet::new(), errors: Vec::new() }
    }

    fn canaries(&self) -> Vec<Canary> {
        let personal = [("address", EMAIL), ("name", NAME), ("other name", OTHER_NAME)];
        let personal = personal.map(|(what, value)| Canary { what, value: value.to_owned(), personal: true });
        let passwords =
            [("password", PASSWORD), ("other password", OTHER_PASSWORD), ("wrong password", WRONG_PASSWORD)];
        let passwords = passwords.map(|(what, value)| Canary { what, value: value.to_owned(), personal: false });
        let secrets = self.secrets.iter().map(|(what, value)| Canary {
            what,
            value: value.clone(),
            // Mailed links are on their way from one of these to the other.
            personal: what.contains("link"),
        });
        personal.into_iter().chain(passwords).chain(secrets).collect()
    }

    /// A request to a service. Answers that say that something is wrong are kept.
    async fn ask(
        &mut self,
        service: &str,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let port = self.stack.port(service).unwrap();
        let key = format!("canary-{}", self.traces.len());
        let headers = [
            ("idempotency-key", key.as_str()),
            ("if-match", "*"),
            ("user-agent", "canary/1.0 (canary-7f3e91@example.test)"),
        ];
        let answer = http::send(port, method.clone(), path, token, &headers, body.as_ref()).await.unwrap();
        self.traces.insert(answer.trace_id().unwrap());
        if !answer.status.is_success() {
            let headers: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value:?}\n")).collect();
            let what = format!("{method} {path} at {service}: {}", answer.status);
            self.errors.push((what, format!("{headers}\n{}", answer.text())));
        }
        answer
    }

    async fn post(&mut self, service: &str, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.ask(service, Method::POST, path, token, Some(body)).await
    }

    async fn live_a_whole_life(&mut self) {
        self.make_mistakes_at_the_door().await;
        self.register().await;
        let token = self.log_in(PASSWORD).await;
        self.order(&token).await;
        self.change_the_name(&token).await;
        self.forget_the_password().await;
        let token = self.log_in(OTHER_PASSWORD).await;
        self.read_the_mails(&token).await;
        self.leave(&token).await;
    }

    async fn make_mistakes_at_the_door(&mut self) {
        for body in [
            json!({ "email": EMAIL.replace('@', " at "), "name": NAME, "password": PASSWORD }),
            json!({ "email": EMAIL, "name": NAME, "password": EMAIL }),
            json!({ "email": EMAIL, "name": NAME, "password": "canary-pass" }),
            json!({ "email": { "is": EMAIL }, "name": NAME, "password": PASSWORD }),
            json!({ "email": EMAIL, "name": [NAME], "password": PASSWORD }),
            json!({ "email": EMAIL, "name": NAME, "password": PASSWORD, "nickname": NAME }),
            json!({ "email": EMAIL, "name": NAME.repeat(40), "password": PASSWORD }),
            json!(EMAIL),
        ] {
            let answer = self.post("users", "/users", None, body.clone()).await;
            assert!(answer.status.is_client_error(), "{body}: {}", answer.status);
        }
        let path = format!("/users/{}", EMAIL.replace('@', "%40"));
        self.ask("users", Method::GET, &path, None, None).await;
        self.ask("users", Method::GET, &format!("/nowhere?email={EMAIL}&password=canary-pass"), None, None).await;
        self.ask("notifications", Method::GET, "/notifications", Some("no.canary.token"), None).await;
    }

    async fn register(&mut self) {
        let body = json!({ "email": EMAIL, "name": NAME, "password": PASSWORD });
        let answer = self.post("users", "/users", None, body.clone()).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let link = self.mailed_link("/email-verifications/", "verification link").await;
        // Again, with an address that is known.
        self.post("users", "/users", None, body).await;
        self.ask("users", Method::GET, &format!("/email-verifications/{link}"), None, None).await;
        let answer = self.ask("users", Method::POST, &format!("/email-verifications/{link}"), None, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.ask("users", Method::POST, &format!("/email-verifications/{link}"), None, None).await;
    }

    /// Logs in, after an attempt that fails; renews the session; answers with the access token.
    async fn log_in(&mut self, password: &str) -> String {
        let wrong = json!({ "email": EMAIL, "password": WRONG_PASSWORD });
        assert_eq!(self.post("users", "/sessions", None, wrong).await.status, 401);
        let right = json!({ "email": EMAIL, "password": password });
        let opened = self.post("users", "/sessions", None, right).await.success().unwrap().json().unwrap();
        let refresh = self.keep_tokens(&opened);
        let renewal = json!({ "refresh_token": refresh });
        let renewed = self.post("users", "/sessions/renewal", None, renewal).await.success().unwrap().json().unwrap();
        self.keep_tokens(&renewed);
        let token = renewed["access_token"].as_str().unwrap().to_owned();
        let me = self.ask("users", Method::GET, "/users/me", Some(&token), None).await.success().unwrap();
        self.id = me.json().unwrap()["id"].as_str().unwrap().to_owned();
        token
    }

    /// Remembers what must not be seen of a session; answers with the refresh token.
    fn keep_tokens(&mut self, session: &Value) -> String {
        let access = session["access_token"].as_str().unwrap();
        let refresh = session["refresh_token"].as_str().unwrap().to_owned();
        // The signature is what makes it a secret; the rest only says who it is for.
        self.secrets.push(("access token", access.rsplit('.').next().unwrap().to_owned()));
        self.secrets.push(("refresh token", refresh.clone()));
        refresh
    }

    async fn order(&mut self, token: &str) {
        let operator = self.shop.operator().await.unwrap();
        self.shop.new_product(&operator, SKU, 10).await.unwrap();
        let line = json!([{ "sku": SKU, "quantity": 1 }]);
        for body in [
            json!({ "lines": [{ "sku": EMAIL, "quantity": 1 }], "payment_method": "pm_ok" }),
            json!({ "lines": [{ "sku": SKU, "quantity": EMAIL }], "payment_method": "pm_ok" }),
            json!({ "lines": line, "payment_method": NAME }),
            json!({ "lines": line, "payment_method": "pm_ok", "email": EMAIL }),
        ] {
            self.post("orders", "/orders", Some(token), body).await;
        }
        let customer = Person { email: EMAIL.to_owned(), id: self.id.clone(), token: token.to_owned() };
        for (method, outcome) in [("pm_ok", "confirmed"), ("pm_declined", "cancelled (payment_declined)")] {
            let placed = self.shop.place(&customer, SKU, 1, method).await.unwrap();
            let order = placed.order.id;
            eventually("the end of an order", async || {
                (self.shop.order(&customer, &order).await.unwrap().outcome() == outcome).then_some(())
            })
            .await;
            self.traces.insert(placed.trace_id);
            self.ask("payments", Method::GET, &format!("/payments/{order}"), Some(token), None).await;
            self.ask("orders", Method::GET, &format!("/orders/{order}/timeline"), Some(token), None).await;
            self.ask("orders", Method::POST, &format!("/orders/{order}/cancellation"), Some(token), None).await;
        }
        for (service, path) in [
            ("orders", "/orders"),
            ("orders", "/orders/canary-7f3e91@example.test"),
            ("payments", "/payments/01a20a43-268f-74eb-bf52-dbfb22993196"),
            ("inventory", "/products/CANARY-01"),
            ("inventory", "/products/CANARY-01/stock"),
        ] {
            self.ask(service, Method::GET, path, Some(token), None).await;
        }
    }

    async fn change_the_name(&mut self, token: &str) {
        let change = json!({ "name": OTHER_NAME });
        assert!(self.ask("users", Method::PATCH, "/users/me", Some(token), Some(change)).await.status.is_success());
        let change = json!({ "current_password": WRONG_PASSWORD, "new_password": OTHER_PASSWORD });
        let refused = self.ask("users", Method::PATCH, "/users/me", Some(token), Some(change)).await;
        assert!(refused.status.is_client_error(), "{}", refused.status);
    }

    async fn forget_the_password(&mut self) {
        assert_eq!(self.post("users", "/password-resets", None, json!({ "email": EMAIL })).await.status, 202);
        let link = self.mailed_link("/password-resets/", "reset link").await;
        let path = format!("/password-resets/{link}");
        self.ask("users", Method::GET, &path, None, None).await;
        self.ask("users", Method::PUT, &path, None, Some(json!({ "password": EMAIL }))).await;
        let body = json!({ "password": OTHER_PASSWORD });
        let answer = self.ask("users", Method::PUT, &path, None, Some(body.clone())).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        self.ask("users", Method::PUT, &path, None, Some(body)).await;
    }

    async fn read_the_mails(&mut self, token: &str) {
        let list = self.ask("notifications", Method::GET, "/notifications", Some(token), None).await;
        let list = list.success().unwrap().json().unwrap();
        let items = list.get("items").unwrap_or(&list);
        let first = items[0]["id"].as_str().unwrap().to_owned();
        self.ask("notifications", Method::GET, &format!("/notifications/{first}"), Some(token), None).await;
        let path = format!("/notifications/{first}/resend");
        self.ask("notifications", Method::POST, &path, Some(token), None).await;
    }

    async fn leave(&mut self, token: &str) {
        let goodbye = json!({ "password": WRONG_PASSWORD });
        self.ask("users", Method::DELETE, "/users/me", Some(token), Some(goodbye)).await;
        let goodbye = json!({ "password": OTHER_PASSWORD });
        let left = self.ask("users", Method::DELETE, "/users/me", Some(token), Some(goodbye)).await;
        assert!(left.status.is_success(), "{}", left.text());
        self.ask("users", Method::DELETE, "/sessions/current", Some(token), None).await;
    }

    /// Waits for the mail with a link, and answers with its last part.
    async fn mailed_link(&mut self, path: &str, what: &'static str) -> String {
        let base = format!("http://localhost:{}{path}", self.stack.port("users").unwrap());
        let found =
            |mail: &Mail| mail.text.split_whitespace().find_map(|word| word.strip_prefix(&base)).map(str::to_owned);
        let link = eventually(what, async || self.shop.mails_to(EMAIL).await.unwrap().iter().find_map(found)).await;
        self.secrets.push((what, link.clone()));
        link
    }
}

/// Everything that is to be looked at.
async fn places(stack: &Stack, visit: &Visit<'_>) -> Vec<Place> {
    for (service, ..) in OF_ACCOUNTS {
        let gone = "select count(*) from messaging.parked where state = 'dead' and type = 'users.v1.UserDeleted';";
        eventually("the dead letter of the last event", async || {
            (stack.run_sql(service, gone).await.unwrap().trim() != "0").then_some(())
        })
        .await;
    }
    let mut places = Vec::new();
    for service in Stack::services() {
        places.extend(rows(stack, service).await);
        let metrics = http::get(stack.port(service).unwrap(), "/metrics").await.unwrap().success().unwrap();
        places.push(Place::new("metrics", service, metrics.text()));
    }
    places.extend(messages(&eventually_tapped(stack, &visit.id).await));
    places.extend(visit.errors.iter().map(|(what, text)| Place::new("error", what, text)));
    places.extend(spans(stack, visit).await);
    places.extend(stack.logs().unwrap().into_iter().map(|(name, text)| Place::new("log", name, text)));
    places
}

/// The rows of a service: the envelopes and fates of messages, their content, and its own tables.
async fn rows(stack: &Stack, service: &str) -> Vec<Place> {
    let tables = "select quote_ident(table_schema) || '.' || quote_ident(table_name) from information_schema.tables
                  where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema');";
    let tables = stack.run_sql(service, tables).await.unwrap();
    let mut places = Vec::new();
    for table in tables.lines().map(str::trim).filter(|table| !table.is_empty()) {
        let name = format!("{service}: {table}");
        let kind = if table.starts_with("messaging.parked") { "dead letter" } else { "database" };
        let holds_addresses = HOLD_ADDRESSES.contains(&service);
        if table.starts_with("messaging.") {
            let envelopes = format!("select to_jsonb(t) - 'payload' from {table} t;");
            places.push(Place::new(kind, name.clone(), stack.run_sql(service, &envelopes).await.unwrap()));
        }
        let all = format!("select to_jsonb(t) from {table} t;");
        let text = stack.run_sql(service, &all).await.unwrap();
        places.push(Place { holds_addresses, ..Place::new(kind, name, text) });
    }
    places
}

/// The events of the account are published by the time that its last request is answered, or soon after.
async fn eventually_tapped(stack: &Stack, id: &str) -> Vec<Tapped> {
    let mut all = Vec::new();
    eventually("the events of the account", async || {
        all.extend(stack.tapped().await.unwrap());
        all.iter().any(|message| message.envelope.to_string().contains(id)).then_some(())
    })
    .await;
    all
}

fn messages(tapped: &[Tapped]) -> Vec<Place> {
    let envelopes = tapped
        .iter()
        .map(|message| Place::new("message header", message.event_type.clone(), message.envelope.to_string()));
    let contents = tapped.iter().map(|message| {
        let service = message.event_type.split('.').next().unwrap_or_default();
        let text = String::from_utf8_lossy(&message.payload);
        let place = Place::new("message", message.event_type.clone(), text);
        Place { holds_addresses: HOLD_ADDRESSES.contains(&service), ..place }
    });
    envelopes.chain(contents).collect()
}

/// Each trace that a request of the visit began, and everything else that the backend has of the services.
async fn spans(stack: &Stack, visit: &Visit<'_>) -> Vec<Place> {
    let port = stack.traces_port();
    let mut places = Vec::new();
    for trace in &visit.traces {
        let text = eventually("the trace of a request", async || {
            let answer = http::get(port, &format!("/api/traces/{trace}")).await.unwrap();
            answer.status.is_success().then(|| answer.text())
        })
        .await;
        places.push(Place::new("span", trace, text));
    }
    for service in Stack::services() {
        let path = format!("/api/traces?service={service}&limit=150");
        let text = http::get(port, &path).await.unwrap().success().unwrap().text();
        places.push(Place::new("span", format!("of {service}"), text));
    }
    places
}
