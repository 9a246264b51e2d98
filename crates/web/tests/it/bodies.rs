//! Bad input gets an answer that says what is wrong with it.

use crate::app::{send, start};

#[tokio::test]
async fn a_body_that_is_not_json_is_400() {
    let app = start();
    for body in ["{", "", "name=x", r#"{"name":"x"} trailing"#] {
        app.post_json("/things", body).await.problem(400, "malformed-json");
    }
}

#[tokio::test]
async fn wrong_missing_and_unknown_members_are_422_and_named() {
    let app = start();
    let cases = [
        (r#"{"name":7}"#, "#/name"),
        ("{}", "#/name"),
        (r#"{"name":"x","sise":1}"#, "#/sise"),
        (r#"{"name":"x","size":-1}"#, "#/size"),
        ("[]", "#"),
        ("7", "#"),
    ];
    for (body, pointer) in cases {
        let problem = app.post_json("/things", body).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
}

#[tokio::test]
async fn a_body_of_another_content_type_is_415_and_says_which_is_wanted() {
    let app = start();
    let post = || app.http.post(app.url("/things")).body(r#"{"name":"x"}"#);
    for request in [post(), post().header("content-type", "text/plain"), post().header("content-type", ";;")] {
        let answer = send(request).await;
        answer.problem(415, "unsupported-media-type");
        assert_eq!(answer.header("accept"), "application/json");
    }
    let accepted = send(post().header("content-type", "application/json; charset=utf-8")).await;
    assert_eq!((accepted.status, accepted.text.as_str()), (200, r#"{"name":"x","size":null}"#));
}

#[tokio::test]
async fn a_malformed_id_is_400() {
    let app = start();
    app.get("/things/7").await.problem(400, "bad-request");
    let id = uuid::Uuid::new_v4();
    assert_eq!(app.get(&format!("/things/{id}")).await.text, id.to_string());
}

#[tokio::test]
async fn errors_of_foreign_extractors_are_problems_too() {
    let app = start();
    let not_text = app.http.post(app.url("/text")).header("content-type", "text/plain").body(vec![0xff, 0xfe]);
    let answer = send(not_text).await;
    answer.problem(400, "client-error");
}
