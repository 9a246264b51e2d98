//! The topology is generated, and verified before anything is consumed.

use messaging::{Event as _, topology::Management};

use crate::support::*;

/// Switch: `verification`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topology_that_differs_stops_the_start_with_the_difference_named() {
    let stage = stage().await;
    let management = stage.vhost.management_for("parcels");
    let service = parcels(&[ParcelMoved::TYPE]);
    stage.broker.verify(&service, Some(&management)).await.unwrap();

    let difference = async |service: messaging::topology::Service| {
        stage.broker.verify(&service, Some(&management)).await.unwrap_err().to_string()
    };
    let more = difference(parcels(&[ParcelMoved::TYPE, ParcelSeen::TYPE])).await;
    assert!(more.contains("queue parcels is not bound to events with parcels.v1.ParcelSeen.*"), "{more}");
    let fewer = difference(parcels(&[])).await;
    assert!(fewer.contains("bound to events with parcels.v1.ParcelMoved.*, which no handler takes"), "{fewer}");

    let mut competing = service.clone();
    competing.subscriptions[0].ordered = false;
    let arguments = difference(competing).await;
    assert!(arguments.contains("x-single-active-consumer"), "{arguments}");

    stage.vhost.set_policy("parcels", serde_json::json!({ "max-length": 5 })).await;
    // The management API hears of it a little later.
    testkit::eventually("the other policy is named", async || {
        let verified = stage.broker.verify(&service, Some(&management)).await;
        verified.is_err_and(|error| {
            error.to_string().contains("queue parcels has the policy \"test\", wanted is \"parcels\"")
        })
    })
    .await;
    stage.vhost.clear_policy().await;

    stage.vhost.delete_queue("parcels").await;
    // Without the management API existence is all that can be seen, and it is.
    let missing = stage.broker.verify(&service, None).await.unwrap_err().to_string();
    assert!(missing.contains("queue parcels") && missing.contains("NOT_FOUND"), "{missing}");
}

/// A broker that does not know the service yet, or is about to start, differs in nothing that is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_management_api_that_does_not_answer_is_no_difference() {
    let stage = stage().await;
    let service = parcels(&[ParcelMoved::TYPE]);
    let right = stage.vhost.management_for("parcels");
    let unknown = stage.vhost.management_for("nobody");
    let away = Management { url: "http://127.0.0.1:1".to_owned(), vhost: right.vhost.clone() };
    for silent in [&unknown, &away] {
        let error = stage.broker.verify(&service, Some(silent)).await.unwrap_err();
        assert!(matches!(error, messaging::Error::Management(_)), "{error}");
    }

    stage.vhost.delete_queue("parcels.dead").await;
    let error = stage.broker.verify(&service, Some(&right)).await.unwrap_err();
    assert!(matches!(error, messaging::Error::Topology(_)), "{error}");
}

/// A service may publish its own events and read its own queues, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_no_rights_but_its_own() {
    let mut others = parcels(&[ParcelMoved::TYPE]);
    others.name = "others".into();
    others.subscriptions[0].consumer = "others".into();
    let stage = testkit::Stage::new("parcels", &[parcels(&[]), others]).await;
    let connection =
        lapin::Connection::connect(&stage.vhost.url_for("parcels"), lapin::ConnectionProperties::default())
            .await
            .unwrap();

    let channel = connection.create_channel().await.unwrap();
    let foreign = channel.basic_consume("others".into(), "".into(), Default::default(), Default::default()).await;
    assert!(foreign.unwrap_err().to_string().contains("ACCESS_REFUSED"));

    let channel = connection.create_channel().await.unwrap();
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.queue_declare("mine".into(), durable, Default::default()).await;
    assert!(declared.unwrap_err().to_string().contains("ACCESS_REFUSED"));

    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(Default::default()).await.unwrap();
    let forged = channel
        .basic_publish("events".into(), "others.v1.Anything.1".into(), Default::default(), b"", Default::default())
        .await
        .unwrap()
        .await;
    assert!(forged.unwrap_err().to_string().contains("ACCESS_REFUSED"));
}
