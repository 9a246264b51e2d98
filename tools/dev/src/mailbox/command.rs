//! SMTP's commands, parsed (RFC 5321 §4.1). No input and output.

/// A command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Ehlo,
    Helo,
    /// The reverse path, empty for a bounce, and the announced size.
    Mail {
        from: String,
        size: Option<usize>,
    },
    Rcpt(String),
    Data,
    Rset,
    Noop,
    Quit,
    Vrfy,
    /// Code and text of the refusal.
    Wrong(u16, &'static str),
}

pub(super) fn parse(line: &str) -> Command {
    let line = line.trim_end();
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" | "HELO" if rest.is_empty() => Command::Wrong(501, "5.5.4 Say who you are"),
        "EHLO" => Command::Ehlo,
        "HELO" => Command::Helo,
        "MAIL" => mail(rest),
        "RCPT" => recipient(rest),
        "DATA" if rest.is_empty() => Command::Data,
        "RSET" if rest.is_empty() => Command::Rset,
        "NOOP" => Command::Noop,
        "QUIT" if rest.is_empty() => Command::Quit,
        "VRFY" => Command::Vrfy,
        "DATA" | "RSET" | "QUIT" => Command::Wrong(501, "5.5.4 This command takes no parameters"),
        "EXPN" | "STARTTLS" | "AUTH" | "HELP" | "TURN" | "BDAT" => Command::Wrong(502, "5.5.1 Not offered here"),
        _ => Command::Wrong(500, "5.5.2 Unknown command"),
    }
}

fn mail(rest: &str) -> Command {
    let Some((path, parameters)) = path(rest, "FROM:") else { return Command::Wrong(501, "5.5.4 MAIL FROM:<address>") };
    if !path.is_empty() && !is_address(path) {
        return Command::Wrong(501, "5.1.7 That is not an address");
    }
    let mut size = None;
    for parameter in parameters.split_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name.to_ascii_uppercase().as_str(), value.to_ascii_uppercase().as_str()) {
            ("SIZE", _) => match value.parse() {
                Ok(announced) => size = Some(announced),
                Err(_) => return Command::Wrong(501, "5.5.4 SIZE=<bytes>"),
            },
            ("BODY", "7BIT" | "8BITMIME") | ("SMTPUTF8", "") => {}
            _ => return Command::Wrong(555, "5.5.4 Unknown parameter"),
        }
    }
    Command::Mail { from: path.to_owned(), size }
}

fn recipient(rest: &str) -> Command {
    match path(rest, "TO:") {
        Some((to, "")) if is_address(to) => Command::Rcpt(to.to_owned()),
        Some((_, "")) => Command::Wrong(501, "5.1.3 That is not an address"),
        Some(_) => Command::Wrong(555, "5.5.4 Unknown parameter"),
        None => Command::Wrong(501, "5.5.4 RCPT TO:<address>"),
    }
}

/// `FROM:<path> parameters`; a space after the colon is common and harmless.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, tail) = rest.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (path, parameters) = tail.trim_start().strip_prefix('<')?.split_once('>')?;
    Some((path, parameters.trim()))
}

/// As much as a mailbox for development wants to know: something before an @, a domain after it, nothing odd in either.
fn is_address(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';');
    text.len() <= 254
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !domain.is_empty()
                && !domain.starts_with('.')
                && !domain.ends_with('.')
                && !text.contains(odd)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_understood() {
        assert_eq!(parse("EHLO laptop\r\n"), Command::Ehlo);
        assert_eq!(parse("helo laptop"), Command::Helo);
        let ann = |size| Command::Mail { from: "ann@example.test".into(), size };
        assert_eq!(parse("MAIL FROM:<ann@example.test>"), ann(None));
        assert_eq!(parse("mail from: <ann@example.test> SIZE=12 BODY=8BITMIME SMTPUTF8"), ann(Some(12)));
        assert_eq!(parse("MAIL FROM:<>"), Command::Mail { from: String::new(), size: None });
        assert_eq!(parse("RCPT TO:<bob@example.test>"), Command::Rcpt("bob@example.test".into()));
        assert_eq!(parse("NOOP whatever"), Command::Noop);
        assert_eq!(parse("quit\r\n"), Command::Quit);
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_right_code() {
        for (line, code) in [
            ("EHLO", 501),
            ("MAIL FROM:ann@example.test", 501),
            ("MAIL FROM:<ann>", 501),
            ("MAIL FROM:<ann@example.test> SIZE=much", 501),
            ("MAIL FROM:<ann@example.test> FOO=bar", 555),
            ("RCPT TO:<>", 501),
            ("RCPT TO:<two words@example.test>", 501),
            ("DATA now", 501),
            ("STARTTLS", 502),
            ("GET / HTTP/1.1", 500),
            ("", 500),
        ] {
            assert!(matches!(parse(line), Command::Wrong(found, _) if found == code), "{line:?} → {:?}", parse(line));
        }
    }
}
