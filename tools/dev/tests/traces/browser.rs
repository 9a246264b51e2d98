//! The pages in a real browser: found, followed, folded; and what is sent to the backend is never more than text.

use std::{panic::resume_unwind, sync::Arc};

use dev::traces::TraceStore;
use serde_json::json;
use tokio::task::JoinSet;

use super::{spans, webdriver::Browser};

/// Keys, as WebDriver writes them.
const ARROW_LEFT: &str = "\u{e012}";
const ARROW_RIGHT: &str = "\u{e014}";
const ARROW_DOWN: &str = "\u{e015}";

/// One browser for all of it: starting it is what takes long.
#[tokio::test]
async fn a_person_finds_a_trace_follows_its_links_and_reads_the_map() {
    let Some(browser) = Browser::start().await else { return };
    let browser = Arc::new(browser);
    let traces = TraceStore::start(([127, 0, 0, 1], 0), ([127, 0, 0, 1], 0)).await.unwrap();
    spans::send(&traces, spans::order()).await;
    spans::send(&traces, spans::attack()).await;
    let url = format!("http://{}", traces.http_addr());
    let mut steps = JoinSet::new();
    let person = Arc::clone(&browser);
    steps.spawn(async move {
        finds_by_tag_and_error(&person, &url).await;
        sees_what_waited_and_opens_a_span(&person).await;
        hides_and_shows(&person).await;
        follows_a_link_both_ways(&person, &url).await;
        sees_markup_as_text(&person, &url).await;
        reads_the_map(&person, &url).await;
        assert_eq!(person.complaints().await, Vec::<String>::new(), "the browser complains about nothing");
    });
    let outcome = steps.join_next().await.unwrap();
    browser.quit().await;
    if let Err(failed) = outcome {
        resume_unwind(failed.into_panic());
    }
}

async fn finds_by_tag_and_error(browser: &Browser, url: &str) {
    browser.open(url).await;
    assert_eq!(browser.eval("document.querySelectorAll('.results tbody tr').length").await, json!(3));
    browser.write("[name=tags]", "postrider.attempt=1").await;
    browser.click("[name=errors]").await;
    browser.follow("form.search button").await;
    assert_eq!(
        browser.eval("[...document.querySelectorAll('.results .root')].map((a) => a.textContent)").await,
        json!(["POST /orders"])
    );
    let address = browser.eval("location.search").await;
    assert!(
        address.as_str().unwrap().contains("tags=postrider.attempt%3D1"),
        "a search can be sent to somebody: {address}"
    );
    assert_eq!(
        browser.eval("document.querySelector('[name=errors]').checked").await,
        json!(true),
        "and is still in the form"
    );
    browser.follow(".results .root").await;
    assert_eq!(browser.eval("location.pathname").await, json!(format!("/trace/{}", spans::trace_id(spans::ORDER))));
}

/// The bars are where the times say: that of the payment's second attempt begins at 612 of 890 ms.
async fn sees_what_waited_and_opens_a_span(browser: &Browser) {
    for waited in ["hatch-dwell", "hatch-transit", "hatch-waiting"] {
        assert!(browser.sees(&format!(".row rect.{waited}")).await, "{waited}");
    }
    let (created, heard) = (row(4), row(5));
    assert!(
        browser.text(&format!("{created} .track text")).await.contains("dwell 50.9 ms"),
        "created at 20.15, confirmed at 71"
    );
    assert!(
        browser.text(&format!("{heard} .track text")).await.contains("transit 25.0 ms"),
        "confirmed at 71, handled from 96"
    );
    assert!(browser.text(&format!("{} .track text", row(13))).await.contains("retry after 281 ms"));
    let left = format!(
        "Math.round(1000 * (document.querySelector('{0} .bar').getBoundingClientRect().x - document.querySelector('{0} .track').getBoundingClientRect().x) \
         / document.querySelector('{0} .track').getBoundingClientRect().width)",
        row(13)
    );
    let left = browser.eval(&left).await.as_i64().unwrap();
    assert!((682..=693).contains(&left), "612 of 890 ms are 688 ‰ of the width, not {left}");
    assert!(!browser.sees(&format!("{created} .facts")).await);
    browser.click(&format!("{created} summary")).await;
    assert!(browser.text(&format!("{created} .facts")).await.contains("01a20a43-268f-74eb-bf52-dbfb22993196"));
}

async fn hides_and_shows(browser: &Browser) {
    assert!(!browser.sees(&row(3)).await, "statements are hidden at first");
    browser.click("#show-sql").await;
    assert!(browser.sees(&row(3)).await);
    assert!(browser.sees(&row(20)).await);
    browser.click(&format!("{} .fold", row(5))).await;
    assert!(!browser.sees(&row(20)).await && !browser.sees(&row(7)).await, "all that is below is folded away");
    assert!(browser.sees(&row(5)).await && browser.sees(&row(3)).await, "what is not below is not");
    browser.click(&format!("{} .fold", row(5))).await;
    assert!(browser.sees(&row(20)).await);
    // The same with the keys of a tree: left folds, right unfolds, down goes to the next line that is seen.
    let line = format!("{} summary", row(5));
    browser.write(&line, ARROW_LEFT).await;
    assert!(!browser.sees(&row(7)).await);
    browser.write(&line, ARROW_RIGHT).await;
    assert!(browser.sees(&row(7)).await);
    browser.write(&line, ARROW_DOWN).await;
    let focused = browser.eval("'#' + document.activeElement.closest('.row').id").await;
    assert_eq!(focused, json!(row(6)));
}

async fn follows_a_link_both_ways(browser: &Browser, url: &str) {
    browser.follow(&format!("{} .link-from", row(4))).await;
    let window = format!("/trace/{}", spans::trace_id(spans::WINDOW));
    assert_eq!(browser.eval("location.pathname").await, json!(window), "from the event to the window that sent it");
    let (first, second) = (row(30), row(31));
    assert!(
        browser.text(&format!("{first} .facts")).await.contains("create orders.v1.OrderPlaced"),
        "the span of the link is open"
    );
    assert!(!browser.sees(&format!("{second} .facts")).await, "and only that");
    browser.follow(&format!("{first} .link-to")).await;
    let back = browser.eval("location.pathname + location.hash").await;
    let order = spans::trace_id(spans::ORDER);
    assert_eq!(back, json!(format!("/trace/{order}{}", row(4))), "and back");
    browser.open(&format!("{url}/trace/{order}{}", row(3))).await;
    assert!(browser.sees(&row(3)).await, "what an address names is seen, though it is hidden at first");
}

async fn sees_markup_as_text(browser: &Browser, url: &str) {
    let trace = format!("{url}/trace/{}", spans::trace_id(spans::ATTACK));
    browser.open(&trace).await;
    for id in [1, 2] {
        browser.click(&format!("{} summary", row(id))).await;
    }
    assert!(!browser.eval("document.title").await.as_str().unwrap().contains("hacked"));
    assert!(browser.text(&format!("{} .facts", row(1))).await.contains("<script>document.title='hacked'</script>"));
    assert!(browser.text(&format!("{} .what", row(2))).await.contains("</span><script>"));
    for page in ["/", "/map", "/search?tags=%22%3E%3Cscript%3Edocument.title%3D'hacked'%3C/script%3E=1&service=%3Cb%3E"]
    {
        browser.open(&format!("{url}{page}")).await;
        assert_eq!(
            browser.eval("document.querySelectorAll('main script, main img, main b[onload]').length").await,
            json!(0),
            "{page}"
        );
        assert!(!browser.eval("document.title").await.as_str().unwrap().contains("hacked"), "{page}");
    }
    // The last page says that the tag makes no sense, with status 400, which a browser mentions.
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|complaint| complaint.contains("status of 400")), "{complaints:?}");
}

async fn reads_the_map(browser: &Browser, url: &str) {
    browser.open(&format!("{url}/map")).await;
    let drawn = browser.text(".map svg").await;
    for name in ["orders", "inventory", "payments", "notifications", "users", "SMTP", "rabbitmq", "provider charge"] {
        assert!(drawn.contains(name), "{name}: {drawn}");
    }
    let rows = browser
        .eval("[...document.querySelectorAll('.edges tbody tr')].map((tr) => [...tr.cells].slice(0, 6).map((td) => td.textContent).join('|'))")
        .await;
    let rows: Vec<&str> = rows.as_array().unwrap().iter().filter_map(|row| row.as_str()).collect();
    for wanted in [
        "orders|announces to|inventory|1|–|75.8 ms",
        "payments|calls|provider charge|2|50 %|60.0 ms",
        "orders|calls|orders (postgresql)|2|–|3.00 ms",
    ] {
        assert!(rows.contains(&wanted), "{wanted} in {rows:#?}");
    }
    assert!(browser.sees(".map path.edge.event").await && browser.sees(".map path.edge.wrong").await);
    browser.follow(".edges a[href*='OrderPlaced']").await;
    assert_eq!(
        browser.eval("[...document.querySelectorAll('.results .root')].map((a) => a.textContent)").await,
        json!(["POST /orders"])
    );
    browser.open(&format!("{url}/map?leaves=hide")).await;
    assert!(!browser.text(".map svg").await.contains("SMTP"));
}

/// The line of a span.
fn row(id: u8) -> String {
    format!("#span-{}", spans::span_id(id))
}
