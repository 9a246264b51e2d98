//! Argon2id over memory that each thread keeps. Taken from the allocator and given back for each hash, its 19 MiB would leave holes that the
//! process keeps, in the arena of each thread that ever hashed.

use std::cell::RefCell;

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{CustomizedPasswordHasher, Error, Result, phc},
};

thread_local! {
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Does what [`Argon2`] does.
pub(super) struct Argon2id;

impl CustomizedPasswordHasher<phc::PasswordHash> for Argon2id {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> Result<phc::PasswordHash> {
        let algorithm = algorithm.map(Algorithm::try_from).transpose()?.unwrap_or_default();
        let version = version.map(Version::try_from).transpose()?.unwrap_or_default();
        let mut output = [0; phc::Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let output = output.get_mut(..length).ok_or(Error::OutputSize)?;
        MEMORY.with_borrow_mut(|memory| {
            memory.resize(params.block_count().max(memory.len()), Block::default());
            let argon2 = Argon2::new(algorithm, version, params.clone());
            argon2.hash_password_into_with_memory(password, salt, output, memory)
        })?;
        Ok(phc::PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: phc::ParamsString::try_from(&params)?,
            salt: Some(phc::Salt::new(salt)?),
            hash: Some(phc::Output::new(output)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

    use super::*;

    #[test]
    fn a_hash_is_the_one_that_argon2_itself_makes() {
        let (password, salt) = (b"quiet-otter-sings-42", b"sixteen bytes ..");
        let ours = Argon2id.hash_password_with_params(password, salt, Params::default()).unwrap();
        assert_eq!(ours, Argon2::default().hash_password_with_salt(password, salt).unwrap());
    }

    #[test]
    fn hashes_of_other_costs_are_verified_with_theirs() {
        for memory_kib in [64, 4096, 128] {
            let params = Params::new(memory_kib, 1, 1, Some(24)).unwrap();
            let hash = Argon2::from(params).hash_password(b"quiet-otter-sings-42").unwrap();
            assert_eq!(Argon2id.verify_password(b"quiet-otter-sings-42", &hash), Ok(()));
            assert_eq!(Argon2id.verify_password(b"quiet-otter-sings-43", &hash), Err(Error::PasswordInvalid));
        }
    }
}
