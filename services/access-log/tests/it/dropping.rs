//! A line is worth less than the request that it tells of.

use crate::stand::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_when_no_line_can_leave_and_what_is_dropped_is_counted() {
    let nowhere = ["--amqp-url=amqp://nobody:nothing@127.0.0.1:1/none", "--access-log-buffer=4"];
    let stand = Stand::open_with(&nowhere).await;
    let full = "messaging_log_dropped_total{reason=\"full\"}";
    let before = stand.metric(full).await;
    for _ in 0..50 {
        stand.get("/access-logs").await.expect(200);
    }
    // The buffer was full before, with the requests of the start, or became full.
    assert!(stand.metric(full).await - before >= 46.0, "{} dropped", stand.metric(full).await - before);
    assert_eq!(stand.client.get("/readyz", None).await.status, 200, "and it is no matter of readiness");
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_buffer_there_is_no_log_of_its_own() {
    let stand = Stand::open_with(&["--access-log-buffer=0"]).await;
    stand.get("/access-logs").await.expect(200);
    // What others write is collected all the same; had it written a line, that would have come before.
    stand.write(&[crate::stand::line("GET", "/parcels", 200)], 1).await;
    assert_eq!(stand.count("select count(*) from access_log").await, 1);
    stand.close().await;
}
