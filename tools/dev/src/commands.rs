//! The commands `up`, `down` and `status`: what they show to people. What they do is in [`crate::stack`].

use anyhow::Result;

use crate::{
    console, sample,
    services::{self, NOTIFICATIONS, USERS},
    stack::{DEFAULT_NAME, Options, Stack, lock, stop_everything},
    state::State,
    tail, workspace,
};

/// `cargo dev up`.
pub(crate) async fn up(options: Options, detach: bool) -> Result<bool> {
    console::line(console::bold(&format!("Starting the stack \"{}\"", options.name)));
    let stack = Stack::start(options).await?;
    show_urls(&stack);
    let shown = sample::show(&stack).await;
    let name = &stack.state.name;
    let suffix = if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
    if let Err(error) = shown {
        if !detach {
            console::heading("Stopping");
            stack.stop_started().await?;
        }
        return Err(error.context("everything runs, but the sample registration did not go through"));
    }
    if detach {
        console::line(format_args!(
            "\nIt goes on running. `cargo dev status{suffix}` looks after it, `cargo dev down{suffix}` stops it."
        ));
        return Ok(true);
    }
    console::line("\nThese are the logs. Ctrl-C stops what was started here.\n");
    tail::follow_until_interrupted(&stack.state).await?;
    console::heading("Stopping");
    if !stack.stop_started().await? {
        console::line(format_args!("\nWhat ran before goes on running; `cargo dev down{suffix}` stops it."));
    }
    Ok(true)
}

/// `cargo dev down`.
pub(crate) async fn down(name: &str, purge: bool) -> Result<bool> {
    let folder = workspace::stack_folder(&workspace::root()?, name);
    if !folder.exists() {
        console::line(format_args!("There is no stack \"{name}\"."));
        return Ok(true);
    }
    if purge {
        Stack::purge(name).await?;
    } else {
        let _lock = lock(name)?;
        match State::load(name)? {
            Some(mut state) => stop_everything(&mut state, false).await?,
            None => console::line(format_args!("Nothing is known to run of \"{name}\".")),
        }
    }
    console::line(format_args!("The stack \"{name}\" is down."));
    Ok(true)
}

/// `cargo dev status`: whether everything runs that should.
pub(crate) async fn status(name: &str) -> Result<bool> {
    let Some(state) = State::load(name)? else {
        console::line(format_args!("There is no stack \"{name}\"; `cargo dev up` makes one."));
        return Ok(false);
    };
    let mut fine = true;
    console::heading(format_args!("Stack \"{name}\""));
    let ports = state.ports;
    let backend = state.backend.as_ref().map(|(process, _)| process);
    for (label, process, port) in [
        ("PostgreSQL", state.postgres.as_ref(), ports.postgres()),
        ("RabbitMQ", state.rabbitmq.as_ref(), ports.amqp()),
        ("mailbox, traces", backend, ports.mailbox()),
    ] {
        match process {
            Some(process) if process.is_running() => {
                console::row(label, format_args!("runs, process {}, port {port}", process.pid()))
            }
            Some(_) => {
                fine = false;
                console::row(label, "GONE: it was started and runs no more");
            }
            None if state.docker => console::row(label, "in Docker"),
            None => console::row(label, "not started here"),
        }
    }
    for service in &state.services {
        let label = services::label(&service.service, service.replica);
        let log = state.log(&label);
        if !service.process.is_running() {
            fine = false;
            console::row(&label, format_args!("GONE; see {}", log.display()));
            continue;
        }
        let health = match services::readiness(service.port).await {
            Ok(()) => "ready".to_owned(),
            Err(reason) => {
                fine = false;
                format!("NOT READY: {reason}")
            }
        };
        console::row(
            &label,
            format_args!("{health}, process {}, http://localhost:{}", service.process.pid(), service.port),
        );
    }
    if state.services.is_empty() {
        fine = false;
        console::row("services", "none runs");
    }
    Ok(fine)
}

fn show_urls(stack: &Stack) {
    let (state, ports, tools) = (&stack.state, stack.state.ports, stack.tools);
    console::heading("Where everything is");
    for service in [&USERS, &NOTIFICATIONS] {
        let port = ports.service(service, 0);
        console::row(service.name, format_args!("http://localhost:{port}   API to try: http://localhost:{port}/docs"));
    }
    console::row("mailbox", format_args!("http://localhost:{}   every mail that the shop sends", tools.mailbox));
    console::row("traces", format_args!("http://localhost:{}", tools.traces));
    let engines = &stack.engines;
    console::row("RabbitMQ", format_args!("{}:{}", "http://localhost", engines.rabbitmq.management.port));
    console::row("PostgreSQL", format_args!("{}", engines.postgres.admin));
    console::row("operator", services::OPERATOR_EMAIL);
    console::row("", format_args!("passwords: {}", state.folder().join("state.json").display()));
}
