//! Who may do what: every route, asked by everybody.

use serde_json::Value;
use uuid::Uuid;
use web::testing::As;

use crate::stand::Stand;

/// A route, and what it answers to nobody, to a customer, to an operator, and to a token that must not count.
const TABLE: [(&str, [u16; 4]); 2] =
    [("get /access-logs", [401, 403, 200, 401]), ("get /access-logs/summary", [401, 403, 200, 401])];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everybody_as_it_should() {
    let stand = Stand::open().await;
    let is_ours = |operation: &Value| operation["tags"][0] != "operations";
    let documented: Vec<_> = stand.documented().iter().filter(|(_, operation)| is_ours(operation)).collect();
    let listed = TABLE.map(|(route, _)| route);
    assert_eq!(listed.as_slice(), documented.iter().map(|(route, _)| route.as_str()).collect::<Vec<_>>(), "complete");

    for (route, [nobody, customer, operator, forged]) in TABLE {
        let path = route.trim_start_matches("get ");
        let ask = async |token: Option<&str>| {
            let answer = stand.client.get(path, token).await;
            stand.look_up(path, &answer);
            answer
        };
        let anonymous = ask(None).await;
        assert_eq!(anonymous.status, nobody, "{route} by nobody: {}", anonymous.text);
        assert_eq!(anonymous.header("www-authenticate"), "Bearer realm=\"postrider\"", "{route}");
        let somebody = Uuid::now_v7();
        for (who, expected) in
            [(As::Customer(somebody), customer), (As::Unverified(somebody), customer), (As::Operator, operator)]
        {
            let answer = ask(Some(&stand.issuer.token(who))).await;
            assert_eq!(answer.status, expected, "{route} by {who:?}: {}", answer.text);
        }
        for who in [As::Operator, As::Customer(somebody)] {
            for (wrong, token) in stand.issuer.forged(who) {
                assert_eq!(ask(Some(&token)).await.status, forged, "{route} with a token {wrong}");
            }
        }
        assert!(stand.documented()[route]["security"][0]["bearer"].is_array(), "{route}");
    }
    stand.close().await;
}
