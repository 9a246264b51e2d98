//! Words that somebody else chose, made fit for a letter.

/// The words on one line, without control characters: what stands in a subject or a name must not begin another header.
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn words_stay_and_lines_go() {
        assert_eq!(one_line(" Ada\r\nBcc: eve@example.org\t"), "Ada Bcc: eve@example.org");
        assert_eq!(one_line(" \n"), "");
    }
}
