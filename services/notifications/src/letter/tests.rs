use chrono::{DateTime, Utc};
use events::{
    inventory::v1::StockLow,
    orders::v1::{CancellationReason, OrderCancelled, OrderConfirmed, order_confirmed::Item},
    payments::v1::PaymentRefunded,
    postrider::money::v1::Money,
};

use super::{Letter, Occasion, layout::WIDTH};
use crate::{details::Details, state::Template};

const ALL: [Template; 8] = [
    Template::VerifyEmail,
    Template::ResetPassword,
    Template::PasswordChanged,
    Template::AccountExists,
    Template::OrderConfirmed,
    Template::OrderCancelled,
    Template::PaymentRefunded,
    Template::StockLow,
];

const ORDER: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// Only HTML has a button that may not work.
const FALLBACK: &str = "If the button does not work, open this address:";

fn money(minor_units: i64) -> Option<Money> {
    Some(Money { minor_units, currency: "EUR".into() })
}

/// What a letter without a token tells, as the event says it.
fn details(template: Template) -> Option<Details> {
    let (order_id, user_id) = (ORDER.to_owned(), "-".to_owned());
    Some(match template {
        Template::OrderConfirmed => {
            let item = |sku: &str, name: &str, quantity, price| Item {
                sku: sku.into(),
                name: name.into(),
                quantity,
                price: money(price),
            };
            let items = vec![
                item("MUG-01", "Mug with a picture of every post office between here and the sea", 2, 1999),
                item("PEN", "Pen & <ink>", 1000, 5),
                item("NAMELESS-1", "", 1, 100),
            ];
            OrderConfirmed { order_id, user_id, items, total: money(9098) }.try_into().unwrap()
        }
        Template::OrderCancelled => cancelled(CancellationReason::OutOfStock.into()),
        Template::PaymentRefunded => {
            PaymentRefunded { order_id, payment_id: "-".into(), user_id, amount: money(9098) }.try_into().unwrap()
        }
        Template::StockLow => {
            StockLow { sku: "MUG-01".into(), name: "Mug\r\nBcc: all".into(), available: 3, threshold: 5 }.into()
        }
        _ => return None,
    })
}

fn cancelled(reason: i32) -> Details {
    OrderCancelled { order_id: ORDER.into(), user_id: "-".into(), reason, total: money(9098) }.try_into().unwrap()
}

fn letter(template: Template, name: Option<&str>) -> Letter {
    letter_about(template, details(template).as_ref(), name)
}

fn letter_about(template: Template, details: Option<&Details>, name: Option<&str>) -> Letter {
    let at: DateTime<Utc> = "2026-11-24T09:10:11Z".parse().unwrap();
    let occasion = Occasion {
        shop: "Bits & Bobs",
        users_url: "https://shop.example",
        name,
        token: template.has_token().then_some("dG9rZW4"),
        details,
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
    let words = text.split_whitespace().map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '&'));
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
fn a_letter_is_not_written_without_its_token_or_what_it_tells() {
    let at = Utc::now();
    for template in ALL {
        let occasion = Occasion {
            shop: "s",
            users_url: "u",
            name: None,
            token: None,
            details: None,
            expires_at: at,
            occurred_at: at,
        };
        let needs = template.has_token() || details(template).is_some();
        assert_eq!(Letter::write(template, &occasion).is_none(), needs, "{}", template.name());
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
            assert!(line.chars().count() <= WIDTH || line.starts_with("https://"), "{line}");
        }
    }
}

#[test]
fn an_order_is_told_line_by_line_with_what_each_costs() {
    let letter = letter(Template::OrderConfirmed, Some("Ada"));
    let text = letter.text().unwrap();
    for line in [
        "Item                                        Quantity      Price     Amount",
        "Mug with a picture of every post office",
        "between here and the sea                           2  19.99 EUR  39.98 EUR",
        "Pen & <ink>                                     1000   0.05 EUR  50.00 EUR",
        "NAMELESS-1                                         1   1.00 EUR   1.00 EUR",
        "Total                                                            90.98 EUR",
    ] {
        assert!(text.lines().any(|other| squeeze(other) == squeeze(line)), "{line}: {text}");
    }
    assert!(squeeze(&text).contains(&format!("Your order has the number {ORDER}.")), "{text}");
    let html = letter.html().unwrap();
    assert!(html.contains("Pen &#38; &#60;ink&#62;") && html.contains(r#"<th scope="col""#), "{html}");
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_reason_for_a_cancellation_is_told_in_words() {
    let mut told = Vec::new();
    // The last one is from a version that does not exist yet.
    for (reason, says) in [
        (CancellationReason::OutOfStock.into(), "out of stock"),
        (CancellationReason::UnknownProduct.into(), "no longer sold"),
        (CancellationReason::PaymentDeclined.into(), "another means of payment"),
        (CancellationReason::CancelledByCustomer.into(), "You cancelled it yourself"),
        (CancellationReason::Expired.into(), "in time"),
        (CancellationReason::CancelledByShop.into(), "We had to cancel it"),
        (CancellationReason::Unspecified.into(), "could not be completed"),
        (99, "could not be completed"),
    ] {
        let letter = letter_about(Template::OrderCancelled, Some(&cancelled(reason)), None);
        let text = squeeze(&letter.text().unwrap());
        assert!(text.contains(says) && text.contains("Your order over 90.98 EUR was cancelled"), "{reason}: {text}");
        assert!(text.contains("You owe us nothing.") && text.contains(ORDER), "{reason}: {text}");
        told.push(text);
    }
    assert_eq!(told[6], told[7]);
    told.dedup();
    assert_eq!(told.len(), 7);
}

#[test]
fn a_product_cannot_bring_a_header_along() {
    let letter = letter(Template::StockLow, None);
    assert_eq!(letter.subject, "Little left at Bits & Bobs: Mug Bcc: all (MUG-01)");
    assert!(squeeze(&letter.text().unwrap()).contains("fell to 3. You are told when 5 or fewer are left."));
}
