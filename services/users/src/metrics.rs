//! The metrics of this service: what registers, logs in and fails to. No label comes from outside.

/// Says what the numbers mean, and that they can happen.
pub(crate) fn describe() {
    use metrics::{counter, describe_counter};
    describe_counter!(
        "users_wrong_passwords_total",
        "Logins with a wrong password, whether the account exists or not."
    );
    describe_counter!(
        "users_refresh_token_reuses_total",
        "Refresh tokens that came a second time, which ended their session."
    );
    describe_counter!("users_password_hashes_total", "Passwords that were hashed, to store or to compare.");
    for name in ["users_wrong_passwords_total", "users_refresh_token_reuses_total", "users_password_hashes_total"] {
        counter!(name).increment(0);
    }
}
