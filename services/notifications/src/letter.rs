//! Letters: the words of each mail. Both versions of a mail, HTML and text, are laid out from the same letter, so they
//! cannot say different things. It sends nothing and stores nothing.

use askama::Template as _;
use chrono::{DateTime, Utc};

use crate::state::Template;

/// Columns of the text version.
const TEXT_WIDTH: usize = 72;

/// One letter, ready to be laid out.
pub(crate) struct Letter {
    pub(crate) subject: String,
    heading: String,
    greeting: String,
    paragraphs: Vec<String>,
    action: Option<Action>,
    after: Vec<String>,
    shop: String,
    why: String,
}

/// The one thing that a reader may want to do.
struct Action {
    label: &'static str,
    link: String,
}

/// What every letter needs to know.
pub(crate) struct Occasion<'a> {
    /// The name of the shop.
    pub(crate) shop: &'a str,
    /// Where the pages of the accounts are; no slash at the end.
    pub(crate) users_url: &'a str,
    /// The name to greet with.
    pub(crate) name: Option<&'a str>,
    /// The token of the link, for letters that have one.
    pub(crate) token: Option<&'a str>,
    /// The end of the token.
    pub(crate) expires_at: DateTime<Utc>,
    /// When it happened that the letter is about.
    pub(crate) occurred_at: DateTime<Utc>,
}

impl Letter {
    /// Writes the letter. `None` if its token is missing.
    pub(crate) fn write(template: Template, occasion: &Occasion<'_>) -> Option<Self> {
        Some(match template {
            Template::VerifyEmail => Self::verify_email(occasion, occasion.token?),
            Template::ResetPassword => Self::reset_password(occasion, occasion.token?),
            Template::PasswordChanged => Self::password_changed(occasion),
            Template::AccountExists => Self::account_exists(occasion),
        })
    }

    fn verify_email(occasion: &Occasion<'_>, token: &str) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("Confirm your e-mail address for {shop}"),
            heading: "Please confirm your e-mail address".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec![format!(
                "Welcome to {shop}! Your account is almost ready. One step is left: confirm that this address is yours."
            )],
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

    fn reset_password(occasion: &Occasion<'_>, token: &str) -> Self {
        let shop = occasion.shop;
        Self {
            subject: format!("Choose a new password for {shop}"),
            heading: "Choose a new password".into(),
            greeting: greeting(occasion.name),
            paragraphs: vec![format!("Somebody, hopefully you, asked for a new password for your account at {shop}.")],
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

    fn password_changed(occasion: &Occasion<'_>) -> Self {
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
            action: None,
            after: vec![],
            shop: shop.into(),
            why: format!("You receive this mail because it concerns the safety of your account at {shop}."),
        }
    }

    fn account_exists(occasion: &Occasion<'_>) -> Self {
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
            action: None,
            after: vec![
                "That was not you? Then you need not do anything. Whoever tried was not told that you have an account."
                    .into(),
            ],
            shop: shop.into(),
            why: format!("You receive this mail because this address belongs to an account at {shop}."),
        }
    }

    /// The HTML version.
    pub(crate) fn html(&self) -> Result<String, askama::Error> {
        Html { letter: self }.render()
    }

    /// The text version: the same words in lines of at most 72 columns, links whole.
    pub(crate) fn text(&self) -> Result<String, askama::Error> {
        let text = Text { letter: self }.render()?;
        Ok(text.lines().map(|line| wrap(line, TEXT_WIDTH) + "\n").collect())
    }
}

#[derive(askama::Template)]
#[template(path = "letter.html")]
struct Html<'a> {
    letter: &'a Letter,
}

#[derive(askama::Template)]
#[template(path = "letter.txt", escape = "none")]
struct Text<'a> {
    letter: &'a Letter,
}

fn greeting(name: Option<&str>) -> String {
    name.map_or_else(|| "Hello,".into(), |name| format!("Hello {name},"))
}

/// A moment that nobody has to convert in their head twice: day in words, time zone said.
fn moment(at: DateTime<Utc>) -> String {
    at.format("%-d %B %Y at %H:%M UTC").to_string()
}

/// Breaks a line at spaces; a word that is longer than the width stays whole.
fn wrap(line: &str, width: usize) -> String {
    let mut wrapped = String::with_capacity(line.len() + 8);
    let mut column = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            wrapped.push('\n');
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::{DateTime, Letter, Occasion, TEXT_WIDTH, Template, Utc, wrap};

    const ALL: [Template; 4] =
        [Template::VerifyEmail, Template::ResetPassword, Template::PasswordChanged, Template::AccountExists];

    /// Only HTML has a button that may not work.
    const FALLBACK: &str = "If the button does not work, open this address:";

    fn letter(template: Template, name: Option<&str>) -> Letter {
        let at: DateTime<Utc> = "2026-11-24T09:10:11Z".parse().unwrap();
        let occasion = Occasion {
            shop: "Bits & Bobs",
            users_url: "https://shop.example",
            name,
            token: template.has_token().then_some("dG9rZW4"),
            expires_at: at,
            occurred_at: at,
        };
        Letter::write(template, &occasion).unwrap()
    }

    /// The words of the HTML body, without tags.
    fn words_of_html(html: &str) -> Vec<String> {
        let body = html.split_once("<body").unwrap().1.split_once('>').unwrap().1;
        let mut text = String::new();
        let mut in_tag = false;
        for c in body.chars() {
            match c {
                '<' => in_tag = true,
                '>' => {
                    in_tag = false;
                    text.push(' ');
                }
                c if !in_tag => text.push(c),
                _ => {}
            }
        }
        let text = text.replace("&#38;", "&").replace("&#60;", "<").replace("&#62;", ">").replace("&#39;", "'");
        words(&text)
    }

    fn words(text: &str) -> Vec<String> {
        let words =
            text.split_whitespace().map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '&'));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn both_versions_say_the_same() {
        for template in ALL {
            let letter = letter(template, Some("Ada"));
            let html = letter.html().unwrap().replace(FALLBACK, "");
            assert_eq!(words_of_html(&html), words(&letter.text().unwrap()), "{}", template.name());
        }
    }

    #[test]
    fn the_link_leads_to_the_accounts_service_with_the_token() {
        let text = letter(Template::VerifyEmail, None).text().unwrap();
        assert!(text.contains("\nhttps://shop.example/email-verifications/dG9rZW4\n"), "{text}");
        let html = letter(Template::ResetPassword, None).html().unwrap();
        assert!(html.contains(r#"href="https://shop.example/password-resets/dG9rZW4""#), "{html}");
    }

    #[test]
    fn a_letter_with_a_link_is_not_written_without_its_token() {
        let at = Utc::now();
        for template in ALL {
            let occasion =
                Occasion { shop: "s", users_url: "u", name: None, token: None, expires_at: at, occurred_at: at };
            assert_eq!(Letter::write(template, &occasion).is_none(), template.has_token(), "{}", template.name());
        }
    }

    #[test]
    fn a_name_cannot_bring_markup_along() {
        let html = letter(Template::PasswordChanged, Some("<img src=x>")).html().unwrap();
        assert!(!html.contains("<img"), "{html}");
        assert!(html.contains("&#60;img src=x&#62;"), "{html}");
    }

    #[test]
    fn it_is_readable_without_images_scripts_or_anything_from_elsewhere() {
        for template in ALL {
            let html = letter(template, None).html().unwrap();
            assert!(html.contains(r#"<html lang="en""#) && html.contains("prefers-color-scheme: dark"));
            for absent in ["<img", "<script", "<link", "url(", "@import"] {
                assert!(!html.contains(absent), "{absent} in {}", template.name());
            }
        }
    }

    #[test]
    fn lines_of_text_are_short_and_links_stay_whole() {
        for template in ALL {
            for line in letter(template, None).text().unwrap().lines() {
                assert!(line.chars().count() <= TEXT_WIDTH || line.starts_with("https://"), "{line}");
            }
        }
        assert_eq!(wrap("one two three", 7), "one two\nthree");
        assert_eq!(wrap("a-very-long-word b", 4), "a-very-long-word\nb");
        assert_eq!(wrap("", 4), "");
    }
}
