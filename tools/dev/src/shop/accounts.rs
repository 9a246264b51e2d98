//! People: registering, proving the address with the link of the mail, logging in.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{PATIENCE, Shop, eventually};
use crate::{
    http::{self, StatusCode},
    state::Account,
};

/// Somebody who is logged in, for as long as an access token lasts.
#[derive(Clone, Debug)]
pub struct Person {
    /// The address.
    pub email: String,
    /// The id of the account.
    pub id: String,
    /// Sent as a bearer with every request.
    pub token: String,
}

impl Shop {
    /// Logs the operator in.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn operator(&self) -> Result<Person> {
        let (email, password) = &self.operator;
        self.log_in(email, password).await?.with_context(|| format!("{email} is not known with this password"))
    }

    /// Registers, proves the address, and logs in.
    ///
    /// # Errors
    /// When one of these is refused, or the mail does not come.
    pub async fn new_customer(&self, email: &str, name: &str, password: &str) -> Result<Person> {
        self.register(email, name, password).await?;
        self.verify(email).await?;
        self.log_in(email, password).await?.with_context(|| format!("{email} was registered and cannot log in"))
    }

    /// The customer with this account, who is made if there is none yet, however far an earlier attempt came.
    pub(crate) async fn customer(&self, account: &Account, name: &str) -> Result<Person> {
        let Account { email, password } = account;
        let Some(person) = self.log_in(email, password).await? else {
            return self.new_customer(email, name, password).await;
        };
        let me = http::get_as(self.users, "/users/me", &person.token).await?.success()?.json()?;
        if me["verified"] == true {
            return Ok(person);
        }
        // The mail that was sent may be gone with the mailbox.
        let body = json!({ "email": email });
        http::post(self.users, "/email-verifications", Some(&body)).await?.success()?;
        self.verify(email).await?;
        self.log_in(email, password).await?.with_context(|| format!("{email} can log in no more"))
    }

    /// Registers; answers with the id of the trace.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn register(&self, email: &str, name: &str, password: &str) -> Result<String> {
        let body = json!({ "email": email, "name": name, "password": password });
        let answer = http::post(self.users, "/users", Some(&body)).await?;
        ensure!(answer.status == 202, "POST /users was answered with {}: {}", answer.status, answer.text());
        answer.trace_id()
    }

    /// Presses the button behind the newest link that was mailed to somebody.
    pub(crate) async fn verify(&self, email: &str) -> Result<()> {
        let base = format!("http://localhost:{}/email-verifications/", self.users);
        eventually(&format!("a mail to {email} with a link that works"), PATIENCE, async || {
            for mail in self.mails_to(email).await? {
                let Some(token) = mail.text.split_whitespace().find_map(|word| word.strip_prefix(&base)) else {
                    continue;
                };
                let pressed = http::post(self.users, &format!("/email-verifications/{token}"), None).await?;
                // A link of an earlier mail is dead once there is a later one.
                if pressed.status.is_success() {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await
    }

    /// `None`: there is no such account, or the password is another.
    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Result<Option<Person>> {
        let body = json!({ "email": email, "password": password });
        let answer = http::post(self.users, "/sessions", Some(&body)).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let session = answer.success().context("POST /sessions")?.json()?;
        let token = session["access_token"].as_str().context("a session has an access token")?.to_owned();
        let me = http::get_as(self.users, "/users/me", &token).await?.success().context("GET /users/me")?.json()?;
        let id = me["id"].as_str().context("an account has an id")?.to_owned();
        Ok(Some(Person { email: email.to_owned(), id, token }))
    }
}
