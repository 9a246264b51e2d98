//! Takes what is personal or secret out of the words of a mail server, so that they can be stored and shown.

/// Longer replies are cut: they are for people.
const WORDS_MAX: usize = 300;

/// `reply` without anything that looks like an address, without the recipient's own address and its parts, and without the
/// token, on one line.
pub(crate) fn redact(reply: &str, email: &str, token: Option<&str>) -> String {
    let local_part = email.rsplit_once('@').map_or(email, |(local_part, _)| local_part);
    let words = reply.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if word.contains('@') || bare.eq_ignore_ascii_case(local_part) || bare.eq_ignore_ascii_case(email) {
            "(address)"
        } else if token.is_some_and(|token| word.contains(token)) {
            "(link)"
        } else {
            word
        }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{WORDS_MAX, redact};

    fn redacted(reply: &str) -> String {
        redact(reply, "Ada.L@example.org", Some("s3cret"))
    }

    #[test]
    fn an_address_is_not_kept_however_the_server_writes_it() {
        for reply in [
            "550 5.1.1 <ada.l@example.org>: unknown",
            "550 5.1.1 ada.l@EXAMPLE.org: unknown",
            "550 5.1.1 'Ada.L' unknown",
            "550 5.1.1 (eve@example.net) unknown",
        ] {
            assert_eq!(redacted(reply), "550 5.1.1 (address) unknown", "{reply}");
        }
    }

    #[test]
    fn a_token_is_not_kept() {
        assert_eq!(redacted("554 bad link https://shop.example/email-verifications/s3cret."), "554 bad link (link)");
    }

    #[test]
    fn what_helps_an_operator_stays() {
        assert_eq!(redacted("451 4.7.1\r\n Greylisted, try\u{7} later"), "451 4.7.1 Greylisted, try later");
        assert_eq!(redacted(&"é".repeat(1000)).chars().count(), WORDS_MAX + 1);
    }
}
