//! sqlx and PostgreSQL.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use testkit::{Database, eventually};
use tokio::task::JoinSet;
use wire::{Aim, Fault, Proxy};

struct Stage {
    database: Database,
    proxy: Proxy,
    url: String,
}

async fn stage() -> Stage {
    let database = Database::create().await;
    sqlx::query("create table parcel (id bigint primary key, content text not null)")
        .execute(&database.pool)
        .await
        .unwrap();
    let engine = database.url.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).unwrap().0.to_owned();
    let proxy = Proxy::postgres(&engine).await.unwrap();
    let url = crate::through(&database.url, |_| proxy.address().to_string());
    Stage { database, proxy, url }
}

impl Stage {
    async fn connect(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect(&self.url).await
    }

    /// How many there are, asked past the proxy.
    async fn parcels(&self) -> i64 {
        sqlx::query_scalar("select count(*) from parcel").fetch_one(&self.database.pool).await.unwrap()
    }
}

async fn write(connection: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query("insert into parcel values ($1, 'a book')").bind(id).execute(connection).await.map(drop)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_a_commit() {
    let stage = stage().await;
    let mut connection = stage.connect().await.unwrap();
    let lost = stage.proxy.inject(&Aim::everybody(), Fault::LoseCommitReply);

    let mut nothing_written = connection.begin().await.unwrap();
    sqlx::query("select 1").execute(&mut *nothing_written).await.unwrap();
    nothing_written.commit().await.unwrap();
    assert_eq!(lost.count(), 0);

    let mut transaction = connection.begin().await.unwrap();
    write(&mut transaction, 1).await.unwrap();
    transaction.commit().await.unwrap_err();
    assert_eq!(lost.count(), 1);
    // The server may still be at it when the client is cut off.
    eventually("the row is there", async || stage.parcels().await == 1).await;

    let mut next = stage.connect().await.unwrap();
    write(&mut next, 2).await.unwrap();
    assert_eq!((lost.end(), stage.parcels().await), (1, 2));
}

#[tokio::test]
async fn a_transaction_that_is_cut_where_it_has_written_leaves_nothing() {
    let stage = stage().await;
    let mut connection = stage.connect().await.unwrap();
    let cut = stage.proxy.inject(&Aim::everybody(), Fault::CutTransaction);
    let mut transaction = connection.begin().await.unwrap();
    write(&mut transaction, 1).await.unwrap_err();
    drop(transaction);
    assert_eq!((cut.count(), stage.parcels().await), (1, 0));
}

#[tokio::test]
async fn a_connection_is_cut_in_place_of_an_answer_once() {
    let stage = stage().await;
    let mut connection = stage.connect().await.unwrap();
    let cut = stage.proxy.inject(&Aim::everybody(), Fault::CutReply);
    sqlx::query("select 1").execute(&mut connection).await.unwrap_err();
    let mut next = stage.connect().await.unwrap();
    sqlx::query("select 1").execute(&mut next).await.unwrap();
    assert_eq!(cut.count(), 1);
}

#[tokio::test]
async fn what_is_said_in_silence_passes_when_it_is_over() {
    let stage = stage().await;
    let mut connection = stage.connect().await.unwrap();
    let silence = stage.proxy.inject(&Aim::everybody(), Fault::Silence);
    let mut asked = JoinSet::new();
    asked.spawn(async move { write(&mut connection, 1).await });
    assert!(silence.bites(Duration::from_secs(60)).await > 0);
    assert_eq!((asked.try_join_next().is_none(), stage.parcels().await), (true, 0));
    drop(silence);
    asked.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(stage.parcels().await, 1);
}

#[tokio::test]
async fn who_is_refused_comes_in_afterwards() {
    let stage = stage().await;
    let refused = stage.proxy.inject(&Aim::everybody(), Fault::Refuse);
    stage.connect().await.unwrap_err();
    assert_eq!(refused.end(), 1);
    stage.connect().await.unwrap();
}

#[tokio::test]
async fn nobody_else_is_hit() {
    let stage = stage().await;
    let mut connection = stage.connect().await.unwrap();
    let others = Aim::at("somebody_else");
    let faults =
        [Fault::LoseCommitReply, Fault::CutTransaction, Fault::CutReply, Fault::Silence, Fault::LoseAck, Fault::Refuse];
    let faults = faults.map(|fault| stage.proxy.inject(&others, fault));
    let mut transaction = connection.begin().await.unwrap();
    write(&mut transaction, 1).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(faults.map(|fault| fault.count()), [0; 6]);
    assert_eq!((stage.proxy.connections(&others), stage.proxy.connections(&Aim::everybody())), (0, 1));
}

#[tokio::test]
async fn slow_and_narrow_connections_change_nothing_of_what_is_said() {
    let stage = stage().await;
    let mut connection = stage.connect().await.unwrap();
    let slow = stage.proxy.inject(&Aim::everybody(), Fault::Slow(Duration::from_millis(5)));
    let narrow = stage.proxy.inject(&Aim::everybody(), Fault::Throttle { bytes_per_second: 2_000_000 });
    let content = "0123456789abcdef".repeat(40_000);
    sqlx::query("insert into parcel values (1, $1)").bind(&content).execute(&mut connection).await.unwrap();
    let read: String = sqlx::query_scalar("select content from parcel").fetch_one(&mut connection).await.unwrap();
    assert!(read == content, "{} of {} bytes", read.len(), content.len());
    assert!(slow.count() > 0 && narrow.count() > 0);
}

#[tokio::test]
async fn connections_are_cut_and_counted() {
    let stage = stage().await;
    let (mut one, mut other) = (stage.connect().await.unwrap(), stage.connect().await.unwrap());
    assert_eq!(stage.proxy.cut(&Aim::everybody()), 2);
    for connection in [&mut one, &mut other] {
        sqlx::query("select 1").execute(connection).await.unwrap_err();
    }
    eventually("none is left", async || stage.proxy.connections(&Aim::everybody()) == 0).await;
}

#[tokio::test]
async fn who_is_stranded_is_not_told_and_can_connect_anew() {
    let stage = stage().await;
    let mut stranded = stage.connect().await.unwrap();
    assert_eq!(stage.proxy.strand(&Aim::everybody()), 1);
    let mut other = stage.connect().await.unwrap();
    write(&mut other, 1).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(300), write(&mut stranded, 2)).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(stage.parcels().await, 1);
    drop(stranded);
    other.close().await.unwrap();
    eventually("none is left", async || stage.proxy.connections(&Aim::everybody()) == 0).await;
}
