//! Whatever a correct shop leaves behind is accepted.

use proof::check;
use proptest::{prelude::*, test_runner::Config};

use crate::tales::{quiet, rich};

proptest! {
    #![proptest_config(Config { failure_persistence: None, max_shrink_iters: 256, ..Config::default() })]

    #[test]
    fn whatever_a_correct_shop_leaves_behind_is_accepted(run in rich()) {
        let verdict = check(&run.0);
        prop_assert!(verdict.holds(), "{}", verdict);
    }

    #[test]
    fn a_run_in_which_nothing_was_done_to_the_shop_is_accepted(run in quiet()) {
        let verdict = check(&run.0);
        prop_assert!(verdict.holds(), "{}", verdict);
    }
}
