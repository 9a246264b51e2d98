//! For how long lines are kept.

use testkit::eventually;

use crate::stand::{Stand, line};

#[tokio::test(flavor = "multi_thread")]
async fn days_are_made_ahead_and_dropped_after_the_retention() {
    let mut stand = Stand::open().await;
    let ahead = "select count(*) from access_log_days() as day where day >= (now() at time zone 'utc')::date";
    assert_eq!(stand.count(ahead).await, 8, "today and a week");
    let back = "(now() at time zone 'utc')::date - 2";
    let line_of = |day: &str| {
        format!(
            "insert into access_log (at, id, service, instance, method, route, status, duration_us, response_bytes)
             values ({day} + interval '12 hours', gen_random_uuid(), 'parcels', 'p', 'GET', '/', 200, 1, 1);"
        )
    };
    stand.execute(&line_of(&format!("(({back})::timestamp at time zone 'utc')"))).await;
    stand.execute(&line_of(&format!("((({back}) + 1)::timestamp at time zone 'utc')"))).await;
    stand.execute("create table access_log_20200229 partition of access_log for values from ('2020-02-29 00:00+00') to ('2020-03-01 00:00+00')").await;
    stand.execute(&line_of("timestamptz '2020-02-29 00:00+00'")).await;
    assert_eq!(stand.count("select count(*) from access_log where service = 'parcels'").await, 3);
    // Somebody else's has no day in its name, and is left alone.
    stand.execute("create table access_log_archive partition of access_log for values from ('2019-01-01 00:00+00') to ('2020-01-01 00:00+00')").await;

    // At its start it looks, and then every hour.
    let stop = stand.stop_token();
    stand.stop_service(&stop).await;
    stand.set("--access-log-retention-days=1");
    stand.start().await;
    eventually("what is past the retention is gone", async || {
        stand.count("select count(*) from access_log where service = 'parcels'").await == 1
    })
    .await;
    let yesterday = "select count(*) from access_log_days() as day where day = (now() at time zone 'utc')::date - 1";
    assert_eq!(stand.count(yesterday).await, 1, "what is within it is not");
    assert_eq!(stand.count(&format!("select count(*) from access_log_days() as day where day <= {back}")).await, 0);
    stand.write(&[line("GET", "/parcels", 200)], 2).await;
    stand.close().await;
}
