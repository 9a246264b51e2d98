//! The program itself: its command line, its signals, its logs.

use std::{
    io::Read as _,
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::eventually;

use crate::support::{PASSWORD, Stage};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_users"));
    command.env_clear();
    command
}

#[test]
fn its_part_of_the_topology_needs_no_settings() {
    let output = program().arg("topology").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let topology: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(topology["name"], "users");
    assert_eq!(topology["subscriptions"], json!([]));
}

#[test]
fn help_names_every_setting_and_what_is_missing_is_said() {
    let help =
        program().args(["serve", "--help"]).env("DATABASE_URL", "postgres://users:hush@db/users").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for setting in [
        "DATABASE_URL",
        "AMQP_URL",
        "LISTEN",
        "OPERATOR_EMAIL",
        "OPERATOR_PASSWORD",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "LOG_FORMAT",
        "RUST_LOG",
    ] {
        assert!(help.contains(setting), "{setting} is not in {help}");
    }
    assert!(help.contains("127.0.0.1:8081"), "{help}");
    assert!(!help.contains("hush"), "a password is shown: {help}");
    for arguments in [&[][..], &["serve"]] {
        let Output { status, stderr, .. } = program().args(arguments).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("--database-url") && stderr.contains("--amqp-url"), "{stderr}");
    }
    let half = ["serve", "--database-url", "x", "--amqp-url", "x", "--operator-email", "root@example.org"];
    assert!(String::from_utf8(program().args(half).output().unwrap().stderr).unwrap().contains("--operator-password"));
}

#[tokio::test]
async fn it_serves_until_sigterm_ends_well_and_logs_nothing_secret() {
    let stage = Stage::new().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = program()
        .env("DATABASE_URL", &stage.database.url)
        .env("AMQP_URL", stage.vhost.url_for("users"))
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("LOG_FORMAT", "json")
        .env("RUST_LOG", "debug")
        .env("OPERATOR_EMAIL", "root@example.org")
        .env("OPERATOR_PASSWORD", "operator-otter-sings-42")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        stdout.read_to_string(&mut log).map(|_| log)
    });

    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    eventually("the program answers", async || {
        client.get(url("/readyz")).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK)
    })
    .await;
    let body = json!({ "email": "ada@example.org", "name": "Ada Lovelace", "password": PASSWORD });
    assert_eq!(client.post(url("/users")).json(&body).send().await.unwrap().status(), 202);
    let login = json!({ "email": "ada@example.org", "password": PASSWORD });
    let tokens: Value = client.post(url("/sessions")).json(&login).send().await.unwrap().json().await.unwrap();
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(client.get(url("/users/me")).bearer_auth(access).send().await.unwrap().status(), 200);
    let [requested] = stage.events::<events::users::v1::EmailVerificationRequested>().await.try_into().unwrap();
    let link = url(&format!("/email-verifications/{}", requested.token));
    assert_eq!(client.post(link).send().await.unwrap().status(), 200);

    terminate(&child);
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    let log = log.join().unwrap().unwrap();
    assert!(log.contains("POST") && log.contains("made the first operator"), "{log}");
    let refresh = tokens["refresh_token"].as_str().unwrap();
    for secret in [
        PASSWORD,
        "operator-otter",
        "ada@example.org",
        "Lovelace",
        "root@example.org",
        access,
        refresh,
        &requested.token,
        "only-for-tests",
    ] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

fn terminate(child: &Child) {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}
