//! Reads the closing lines of test runners. It runs nothing.

use std::{fmt, ops::AddAssign};

/// How many tests there were, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Who runs the tests. A runner may show what another one printed: the output of a failed test of nextest ends with cargo's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    Cargo,
    Nextest,
}

impl Runner {
    /// The counts of a line, if it is this runner's closing line: `test result:` or `Summary`.
    pub(crate) fn closing_line(self, line: &str) -> Option<Counts> {
        let line = without_colours(line);
        let line = line.trim();
        match self {
            Self::Cargo => Some(add(line.strip_prefix("test result: ")?.split_once(". ")?.1.split(';'))),
            Self::Nextest => {
                let (_, counts) = line.strip_prefix("Summary [")?.split_once(" run: ")?;
                // What is in brackets says more about the passed ones.
                let counts = match (counts.find('('), counts.find(')')) {
                    (Some(open), Some(close)) if open < close => {
                        [counts.get(..open)?, counts.get(close + 1..)?].concat()
                    }
                    _ => counts.to_owned(),
                };
                Some(add(counts.split(',')))
            }
        }
    }
}

fn add<'a>(parts: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::default();
    for part in parts {
        let Some((number, what)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match what {
            "passed" => counts.passed += number,
            "skipped" | "ignored" => counts.skipped += number,
            "failed" | "timed out" | "exec failed" => counts.failed += number,
            _ => {}
        }
    }
    counts
}

/// Without the escape sequences of a terminal (ECMA-48's CSI … letter).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, sequence)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = sequence.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').get(1..).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners_are_read() {
        use Runner::{Cargo, Nextest};
        for (runner, line, passed, failed, skipped) in [
            (Nextest, "     Summary [   0.123s] 5 tests run: 4 passed, 1 failed, 2 skipped", 4, 1, 2),
            (
                Nextest,
                "  Summary [  10.004s] 3/9 tests run: 1 passed (1 slow, 1 flaky), 1 failed, 1 timed out, 0 skipped",
                1,
                2,
                0,
            ),
            (
                Nextest,
                "\x1b[32;1m Summary\x1b[0m [ 0.1s] \x1b[1m1\x1b[0m test run: \x1b[1m1\x1b[0m \x1b[32;1mpassed\x1b[0m, 0 skipped",
                1,
                0,
                0,
            ),
            (
                Cargo,
                "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
                7,
                0,
                1,
            ),
            (
                Cargo,
                "test result: \x1b[31mFAILED\x1b[0m. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
                2,
                3,
                0,
            ),
        ] {
            assert_eq!(runner.closing_line(line), Some(Counts { passed, failed, skipped }), "{line:?}");
        }
        for other in ["test users ... ok", "5 passed", "running 3 tests", "", "Summary of it all"] {
            assert_eq!(Cargo.closing_line(other), None, "{other:?}");
            assert_eq!(Nextest.closing_line(other), None, "{other:?}");
        }
        // A failed test's own output, shown by nextest.
        assert_eq!(Nextest.closing_line("test result: FAILED. 0 passed; 1 failed; 0 ignored"), None);
    }

    #[test]
    fn the_sum_is_written_in_one_line() {
        let mut sum = Counts { passed: 3, failed: 0, skipped: 0 };
        sum += Counts { passed: 2, failed: 1, skipped: 0 };
        assert_eq!(sum.to_string(), "5 passed, 1 failed");
        sum.skipped = 4;
        assert_eq!(sum.to_string(), "5 passed, 1 failed, 4 skipped");
    }
}
