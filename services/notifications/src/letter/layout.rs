//! The text version's lines: paragraphs and tables within a fixed number of columns.

use super::Table;

/// Columns of the text version.
pub(super) const WIDTH: usize = 72;
/// Between two columns of a table.
const GAP: usize = 2;
/// However wide the numbers are, names have this much.
const NAME_MIN: usize = 10;

/// Breaks a line at spaces; a word that is longer than the width stays whole.
pub(super) fn wrap(line: &str, width: usize) -> String {
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

/// The lines of a table: names to the left, numbers to the right. A name that is too long takes several lines, and its numbers
/// stand in the last one, so that the words keep their order.
pub(super) fn table(table: &Table) -> String {
    let rows = || std::iter::once(&table.head).chain(&table.rows);
    let width = |column: usize| rows().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let total = table.total.chars().count();
    let widths = [width(1), width(2), width(3).max(total)];
    let numbers: usize = widths.iter().map(|width| width + GAP).sum();
    let name = WIDTH.saturating_sub(numbers).max(NAME_MIN);

    let mut lines = String::new();
    for [first, numbers @ ..] in rows() {
        let wrapped = wrap(first, name);
        lines.push_str(&pad_last(&wrapped, name));
        for (number, width) in numbers.iter().zip(widths) {
            lines.push_str(&format!("{number:>width$}", width = width + GAP));
        }
        lines.push('\n');
    }
    lines.push_str(&format!("{:<name$}{:>rest$}", "Total", table.total, rest = numbers));
    lines
}

/// Fills the last line with spaces.
fn pad_last(lines: &str, width: usize) -> String {
    let used = lines.rsplit('\n').next().unwrap_or_default().chars().count();
    format!("{lines}{}", " ".repeat(width.saturating_sub(used)))
}

#[cfg(test)]
mod tests {
    use super::{Table, WIDTH, table, wrap};

    #[test]
    fn lines_are_broken_at_spaces_only() {
        assert_eq!(wrap("one two three", 7), "one two\nthree");
        assert_eq!(wrap("a-very-long-word b", 4), "a-very-long-word\nb");
        assert_eq!(wrap("", 4), "");
    }

    #[test]
    fn names_stand_to_the_left_and_numbers_to_the_right() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned);
        let lines = table(&Table {
            head: row(["Item", "Quantity", "Price", "Amount"]),
            rows: vec![
                row(["Mug", "2", "9.99 EUR", "19.98 EUR"]),
                row([
                    "A table that is far too long for one line, whatever one does",
                    "1",
                    "1,000.00 EUR",
                    "1,000.00 EUR",
                ]),
            ],
            total: "1,019.98 EUR".into(),
        });
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines[0], format!("{:<34}  Quantity         Price        Amount", "Item"));
        assert_eq!(lines[1], format!("{:<34}         2      9.99 EUR     19.98 EUR", "Mug"));
        assert_eq!(lines[2], "A table that is far too long for");
        assert!(
            lines[3].starts_with("one line, whatever one does  ")
                && lines[3].ends_with("  1  1,000.00 EUR  1,000.00 EUR")
        );
        assert_eq!(lines[4], format!("{:<60}{:>12}", "Total", "1,019.98 EUR"));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
    }
}
