//! `cargo dev demo`: what happens to an order, in plain sight. Each scenario places one, shows its timeline while it comes, the mails,
//! the stock before and after and where its trace is, and says whether it ended as it should. The slow one is told in the background
//! of the others.

mod scenarios;
mod story;

use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;

use crate::{
    commands, console,
    seed::{self, People},
    shop::Shop,
    stack::{Options, Stack, lock},
    state::State,
};

use scenarios::{SCENARIOS, Scenario};
use story::Story;

/// The names that `cargo dev demo` takes.
pub(crate) fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|scenario| scenario.name).collect()
}

/// Runs the scenarios with these names, or all. `Ok(false)`: one did not end as it should.
pub(crate) async fn run(options: Options, chosen: &[String]) -> Result<bool> {
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| chosen.is_empty() || chosen.iter().any(|name| name == scenario.name))
        .collect();
    let (shop, people) = running_shop(options).await?;
    let (background, foreground): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|scenario| scenario.is_slow);

    for scenario in background.iter().filter(|_| !foreground.is_empty()) {
        console::line(format_args!("\n“{}” takes its time in the background, and is told at the end.", scenario.name));
    }
    let (sender, mut told) = mpsc::unbounded_channel();
    let late = async {
        let mut failed = Vec::new();
        for scenario in background {
            failed.extend(play(scenario, &shop, &people, &Story::recorded(sender.clone())).await);
        }
        // Closes the record: whoever tells it is done at its end.
        drop(sender);
        failed
    };
    let now = async {
        let mut failed = Vec::new();
        for scenario in foreground {
            failed.extend(play(scenario, &shop, &people, &Story::live()).await);
        }
        // What was recorded so far, and then as it happens.
        while let Some(line) = told.recv().await {
            console::line(line);
        }
        failed
    };
    let (mut failed, more) = tokio::join!(now, late);
    failed.extend(more);
    match failed.as_slice() {
        [] => console::line(console::bold("\nEvery scenario ended as it should.")),
        names => console::line(console::bold(&format!("\nThese did not end as they should: {}", names.join(", ")))),
    }
    Ok(failed.is_empty())
}

/// The name of the scenario, if it did not end as it should.
async fn play(scenario: &Scenario, shop: &Shop, people: &People, story: &Story) -> Option<&'static str> {
    story.heading(&format!("{}: {}", scenario.name, scenario.title));
    match scenario.play(shop, people, story).await {
        Ok(()) => {
            story.row("result", "as it should be");
            None
        }
        Err(error) => {
            story.row("result", format!("NOT AS IT SHOULD BE: {error:#}"));
            Some(scenario.name)
        }
    }
}

/// A shop with its seeds: that of the stack that runs, or of one that is started, and goes on running.
async fn running_shop(options: Options) -> Result<(Shop, People)> {
    let name = options.name.clone();
    if let Some(mut state) = State::load(&name)?
        && commands::all_ready(&state).await
    {
        let _lock = lock(&name)?;
        let shop = Shop::of(&state);
        let people = seed::plant(&shop, &mut state).await?;
        return Ok((shop, people));
    }
    console::line(console::bold(&format!("Starting the stack \"{name}\", which goes on running afterwards")));
    let mut stack = Stack::start(options).await?;
    let shop = stack.shop();
    let people = seed::plant(&shop, &mut stack.state).await?;
    Ok((shop, people))
}

/// More than a slow payment takes in a stack of `cargo dev up`.
const SLOW_PATIENCE: Duration = Duration::from_secs(90);
