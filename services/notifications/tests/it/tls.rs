//! Mail over TLS: from the first byte, or with STARTTLS, and never otherwise when it is required.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use testkit::eventually;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::shop::Shop;

/// For 127.0.0.1, signed by nobody but itself; its key is no secret.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/certificate.pem");
const KEY: &[u8] = include_bytes!("tls/key.der");

/// When the conversation becomes a private one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Implicit,
    StartTls,
    Never,
}

/// A mail server with TLS in front of one without.
struct Front {
    address: SocketAddr,
    mailbox: watch::Sender<Option<SocketAddr>>,
    /// Conversations that became private.
    private: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Front {
    async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mailbox, private) = (watch::Sender::new(None), Arc::new(AtomicUsize::new(0)));
        let (behind, count, mut serving) = (mailbox.subscribe(), Arc::clone(&private), JoinSet::new());
        serving.spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (mut behind, count) = (behind.clone(), Arc::clone(&count));
                conversations.spawn(async move {
                    let mailbox = *behind.wait_for(Option::is_some).await.expect("the front is there");
                    // Whoever hangs up is gone.
                    let _ = converse(mode, client, mailbox.expect("an address"), &count).await;
                });
            }
        });
        Self { address, mailbox, private, _serving: serving }
    }
}

async fn converse(mode: Mode, client: TcpStream, mailbox: SocketAddr, private: &AtomicUsize) -> std::io::Result<()> {
    let mailbox = TcpStream::connect(mailbox).await?;
    match mode {
        Mode::Never => pass_on(client, mailbox).await,
        Mode::Implicit => {
            let client = acceptor().accept(client).await?;
            private.fetch_add(1, Ordering::SeqCst);
            pass_on(client, mailbox).await
        }
        Mode::StartTls => {
            let client = until_starttls(client).await?;
            let client = acceptor().accept(client).await?;
            private.fetch_add(1, Ordering::SeqCst);
            // The client has been greeted already.
            let mut mailbox = BufReader::new(mailbox);
            mailbox.read_line(&mut String::new()).await?;
            pass_on(client, mailbox).await
        }
    }
}

async fn pass_on(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut mailbox: impl AsyncRead + AsyncWrite + Unpin,
) -> std::io::Result<()> {
    copy_bidirectional(&mut client, &mut mailbox).await.map(drop)
}

/// Takes no mail in the clear.
async fn until_starttls(client: TcpStream) -> std::io::Result<TcpStream> {
    let (mut client, mut line) = (BufReader::new(client), String::new());
    client.write_all(b"220 front.example\r\n").await?;
    loop {
        line.clear();
        client.read_line(&mut line).await?;
        let reply: &[u8] = match line.trim_end() {
            "" => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            "STARTTLS" => b"220 go on\r\n",
            hello if hello.starts_with("EHLO ") => b"250-front.example\r\n250 STARTTLS\r\n",
            _ => b"530 5.7.0 STARTTLS first\r\n",
        };
        client.write_all(reply).await?;
        if line.starts_with("STARTTLS") {
            return Ok(client.into_inner());
        }
    }
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).expect("a certificate");
    let key = PrivateKeyDer::try_from(KEY).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.expect("the key of the certificate")))
}

/// A shop that sends its mail through the front, and a letter that was tried and not sent.
async fn refused(url: &str, front: &Front) -> Shop {
    let shop = Shop::open_with(&[&format!("--smtp-url={url}")]).await;
    front.mailbox.send_replace(Some(shop.smtp_addr()));
    let user_id = shop.register("ada@example.org", "t0ken").await;
    let tried = "select count(*) from notifications where last_error is not null";
    eventually("somebody tried", async || shop.count(tried).await == 1).await;
    assert_eq!(shop.notification(user_id, "verify_email", "pending").await["attempts"], 0);
    assert_eq!(shop.mails().len(), 0);
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_over_tls_to_a_server_whose_certificate_is_trusted_and_to_no_other() {
    for mode in [Mode::Implicit, Mode::StartTls] {
        let front = Front::start(mode).await;
        let url = match mode {
            Mode::Implicit => format!("smtps://{}", front.address),
            _ => format!("smtp://{}?tls=required", front.address),
        };
        // This process trusts what the machine trusts.
        let mut shop = refused(&url, &front).await;
        shop.stop_service().await.expect("it stops in order");
        let before = front.private.load(Ordering::SeqCst);

        assert!(Path::new(CERTIFICATE).exists());
        let mut process = shop.process(&[("SSL_CERT_FILE", CERTIFICATE)]);
        shop.mails_to("ada@example.org", 1).await;
        let recorded = "select count(*) from notifications where state = 'sent'";
        eventually("it is recorded as sent", async || shop.count(recorded).await == 1).await;
        assert!(front.private.load(Ordering::SeqCst) > before, "{mode:?}");
        process.kill().await.expect("the process is killed");
        shop.start().await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_offer_the_required_tls_gets_nothing() {
    let front = Front::start(Mode::Never).await;
    let mut shop = refused(&format!("smtp://{}?tls=required", front.address), &front).await;
    shop.expect_leftovers();
    shop.close().await;
}
