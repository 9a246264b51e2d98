//! The routes, and what they share. Each resource is in a file of its own under `http/`.

mod answer_time;
mod caller;
mod email_verifications;
mod keys;
mod me;
mod openapi;
mod operators;
mod pages;
mod password_resets;
mod registration;
mod sessions;

use actix_web::web::{Data, ServiceConfig, delete, get, patch, post, put, resource};
use messaging::Outbox;
use secrecy::SecretString;
use sqlx::{Postgres, pool::PoolConnection};
use utoipa::OpenApi as _;
use web::ClientAddr;

use crate::{
    email::Email,
    error::Error,
    password::{PasswordHash, Passwords},
    signing_key::SigningKeys,
    throttle,
};

/// Changes that announce nothing: who logs in or out changes nothing for other services.
pub(crate) const QUIET: [&str; 4] =
    ["POST /sessions", "POST /sessions/renewal", "DELETE /sessions/current", "DELETE /sessions/{id}"];

/// What the routes work with.
pub(crate) struct State {
    pub(crate) outbox: Outbox,
    pub(crate) passwords: Passwords,
    pub(crate) keys: SigningKeys,
    /// 0: any number.
    pub(crate) mails_per_network: u16,
}

/// The document at `/openapi.json`.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    openapi::Document::openapi()
}

/// Registers everything.
pub(crate) fn routes(config: &mut ServiceConfig, state: &Data<State>) {
    config
        .app_data(state.clone())
        .service(resource("/users").route(post().to(registration::register)).route(get().to(operators::list)))
        .service(
            resource("/users/me")
                .route(get().to(me::show))
                .route(patch().to(me::change))
                .route(delete().to(me::delete)),
        )
        .service(resource("/users/{id}/role").route(put().to(operators::give_role)))
        .service(resource("/email-verifications").route(post().to(email_verifications::request)))
        .service(
            resource("/email-verifications/{token}")
                .route(get().to(email_verifications::page))
                .route(post().to(email_verifications::verify)),
        )
        .service(resource("/password-resets").route(post().to(password_resets::request)))
        .service(
            resource("/password-resets/{token}")
                .route(get().to(password_resets::page))
                .route(put().to(password_resets::put))
                .route(post().to(password_resets::submit)),
        )
        .service(resource("/sessions").route(post().to(sessions::login)))
        .service(resource("/sessions/renewal").route(post().to(sessions::renew)))
        .service(resource("/sessions/current").route(delete().to(sessions::logout)))
        .service(resource("/sessions/{id}").route(delete().to(sessions::end_one)))
        .service(resource("/.well-known/jwks.json").route(get().to(keys::published)));
}

impl State {
    /// A connection to read with.
    async fn read(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.outbox.pool().acquire().await
    }

    /// To be asked before anything is done that ends in a mail to an address that the client names.
    async fn count_mail_request(&self, client: ClientAddr) -> Result<(), Error> {
        if self.mails_per_network == 0 {
            return Ok(());
        }
        let pause = throttle::count_mail_request(self.outbox.pool(), client.network(), self.mails_per_network).await?;
        pause.map_or(Ok(()), |pause| Err(Error::TooManyMails(pause)))
    }

    /// Whether the password is the account's, unless too many were wrong lately. Does the same for an address without an account, where the
    /// answer is no.
    async fn passwords_match(
        &self,
        account: &Email,
        client: ClientAddr,
        candidate: &SecretString,
        stored: Option<PasswordHash>,
    ) -> Result<bool, Error> {
        let client = client.network();
        let refuse = async || match throttle::pause(self.outbox.pool(), account, client).await? {
            Some(pause) => Err(Error::Throttled(pause)),
            None => Ok(()),
        };
        refuse().await?;
        let slot = self.passwords.slot().await?;
        // Again, now that it is this one's turn: others that waited with it may have failed, and a flood must not all slip through.
        refuse().await?;
        // The turn lasts until a failure has been counted, for the same reason.
        let (right, _turn) = slot.verify(candidate, stored).await?;
        if !right {
            metrics::counter!("users_wrong_passwords_total").increment(1);
            throttle::count_against_account(self.outbox.pool(), account).await?;
            throttle::count_against_client(self.outbox.pool(), client).await?;
        }
        Ok(right)
    }
}
