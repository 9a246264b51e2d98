//! Letters about accounts.

use super::{Action, Letter, Occasion, greeting, moment};

impl Letter {
    pub(super) fn verify_email(occasion: &Occasion<'_>, token: &str) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("Confirm your e-mail address for {shop}"),
            heading: "Please confirm your e-mail address".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec![format!(
                "Welcome to {shop}! Your account is almost ready. One step is left: confirm that this address is yours."
            )],
            table: None,
            action: Some(Action {
                label: "Confirm my address",
                link: format!("{}/email-verifications/{token}", occasion.users_url),
            }),
            after: vec![
                format!("The link works once, until {}.", moment(occasion.expires_at)),
                "You did not sign up? Then somebody mistyped their address, and you can ignore this mail: nobody can \
                 confirm your address without it."
                    .into(),
            ],
            shop: shop.into(),
            why: format!("You receive this mail because this address was used to sign up at {shop}."),
        }
    }

    pub(super) fn reset_password(occasion: &Occasion<'_>, token: &str) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("Choose a new password for {shop}"),
            heading: "Choose a new password".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec![format!("Somebody, hopefully you, asked for a new password for your account at {shop}.")],
            table: None,
            action: Some(Action {
                label: "Choose a new password",
                link: format!("{}/password-resets/{token}", occasion.users_url),
            }),
            after: vec![
                format!("The link works once, until {}.", moment(occasion.expires_at)),
                "You did not ask for it? Then ignore this mail: your password stays as it is. Never pass the link on. \
                 Whoever has it can take over your account, and nobody from us will ever ask you for it."
                    .into(),
            ],
            shop: shop.into(),
            why: format!("You receive this mail because a new password was requested for your account at {shop}."),
        }
    }

    pub(super) fn password_changed(occasion: &Occasion<'_>) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("Your password for {shop} was changed"),
            heading: "Your password was changed".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec![
                format!("The password of your account at {shop} was changed on {}.", moment(occasion.occurred_at)),
                "For your safety, every device was signed out. Sign in again with the new password.".into(),
                "That was you? Then all is well, and there is nothing else to do.".into(),
                "That was not you? Then somebody else may know your password. Ask for a new one right away on the \
                 sign-in page, and change it wherever else you use the same one."
                    .into(),
            ],
            table: None,
            action: None,
            after: vec![],
            shop: shop.into(),
            why: format!("You receive this mail because it concerns the safety of your account at {shop}."),
        }
    }

    pub(super) fn account_exists(occasion: &Occasion<'_>) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("You already have an account at {shop}"),
            heading: "You already have an account".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec![
                format!(
                    "On {}, somebody tried to open an account at {shop} with this address. There is one already, and \
                     nothing about it was changed.",
                    moment(occasion.occurred_at)
                ),
                "That was you? Then simply sign in. If you have forgotten your password, ask for a new one on the \
                 sign-in page. If you have not confirmed your address yet, ask for a new link there."
                    .into(),
            ],
            table: None,
            action: None,
            after: vec![
                "That was not you? Then you need not do anything. Whoever tried was not told that you have an account."
                    .into(),
            ],
            shop: shop.into(),
            why: format!("You receive this mail because this address belongs to an account at {shop}."),
        }
    }
}
