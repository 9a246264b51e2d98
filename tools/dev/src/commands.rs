//! The commands `up`, `down` and `status`: what they show to people. What they do is in [`crate::stack`].

use anyhow::Result;

use crate::{
    backend, console,
    process::Tracked,
    replicas, sample, seed,
    services::{OPERATOR_EMAIL, SERVICES},
    stack::{DEFAULT_NAME, Options, Stack, lock, stop_everything},
    state::State,
    tail, workspace,
};

/// `cargo dev up`.
pub(crate) async fn up(options: Options, detach: bool) -> Result<bool> {
    console::line(console::bold(&format!("Starting the stack \"{}\"", options.name)));
    let mut stack = Stack::start(options).await?;
    let shown = show_sample(&mut stack).await;
    show_urls(&stack);
    let name = &stack.state.name;
    let suffix = if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
    if let Err(error) = shown {
        if !detach {
            console::heading("Stopping");
            stack.stop_started().await?;
        }
        return Err(error.context("everything runs, but the sample order did not go through"));
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

async fn show_sample(stack: &mut Stack) -> Result<()> {
    let shop = stack.shop();
    console::heading("What the shop has");
    let people = seed::plant(&shop, &mut stack.state).await?;
    sample::show(&shop, &people).await
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
    let backend_port = if state.docker { ports.page() } else { ports.mailbox() };
    let brokers = brokers(&state);
    let brokers = brokers.iter().map(|(label, process, port)| (label.as_str(), process.as_ref(), *port));
    for (label, process, port) in
        [("PostgreSQL", state.postgres.as_ref(), ports.postgres())].into_iter().chain(brokers).chain([
            (backend::label(&state), backend, backend_port),
            ("Prometheus", state.prometheus.as_ref(), ports.prometheus()),
            ("exporter", state.postgres_exporter.as_ref(), ports.postgres_metrics()),
        ])
    {
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
        let label = replicas::label(&service.service, service.replica);
        let log = state.log(&label);
        if !service.process.is_running() {
            fine = false;
            console::row(&label, format_args!("GONE; see {}", log.display()));
            continue;
        }
        let health = match replicas::readiness(service.port).await {
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
    if backend.is_some_and(Tracked::is_running) {
        console::row("page", format_args!("http://localhost:{}   all of this, with graphs", ports.page()));
    }
    show_people(&state);
    Ok(fine)
}

/// The brokers of a stack, with what was started as them and where they listen.
fn brokers(state: &State) -> Vec<(String, Option<Tracked>, u16)> {
    let version = state.rabbitmq_version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let count = state.brokers.as_ref().map_or(1, |brokers| brokers.count);
    let processes = state.rabbitmq.iter().chain(&state.other_brokers).cloned().map(Some).chain(std::iter::repeat(None));
    let all = (0..count).zip(processes).map(|(number, process)| {
        let number_of_many = if count == 1 { String::new() } else { format!(" {}", number + 1) };
        (format!("RabbitMQ{version}{number_of_many}"), process, state.ports.broker(number).amqp)
    });
    all.collect()
}

/// Whether every service of a stack runs and is ready.
pub(crate) async fn all_ready(state: &State) -> bool {
    for service in SERVICES {
        let mut running = state.services.iter().filter(|running| running.service == service.name);
        match running.next() {
            Some(running) if running.process.is_running() && replicas::readiness(running.port).await.is_ok() => {}
            _ => return false,
        }
    }
    true
}

fn show_urls(stack: &Stack) {
    let (state, ports, tools) = (&stack.state, stack.state.ports, stack.tools);
    console::heading("Where everything is");
    console::row("start here", format_args!("http://localhost:{}   what runs, how it is, graphs", ports.page()));
    let mut services = SERVICES;
    services.sort_by_key(|service| service.port);
    for service in services {
        let port = ports.service(service, 0);
        console::row(service.name, format_args!("http://localhost:{port}   API to try: http://localhost:{port}/docs"));
    }
    console::row("mailbox", format_args!("http://localhost:{}   every mail that the shop sends", tools.mailbox));
    console::row("traces", format_args!("http://localhost:{}", tools.traces));
    if state.prometheus.is_some() {
        console::row("metrics", format_args!("http://localhost:{}   graphs and alerts", ports.prometheus()));
    }
    let engines = &stack.engines;
    console::row("RabbitMQ", format_args!("{}:{}", "http://localhost", engines.rabbitmq.management.port));
    console::row("PostgreSQL", format_args!("{}", engines.postgres.admin));
    show_people(state);
    console::row("", format_args!("passwords of the engines: {}", state.folder().join("state.json").display()));
}

/// Who can log in. Their passwords are this stack's own, and good for nothing else.
fn show_people(state: &State) {
    console::row("operator", format_args!("{OPERATOR_EMAIL}   {}", state.operator_password));
    if let Some(customer) = &state.customer {
        console::row("customer", format_args!("{}   {}", customer.email, customer.password));
    }
}
