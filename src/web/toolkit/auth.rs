//! Basic authentication against bcrypt hashes.
//!
//! bcrypt is slow on purpose, so it runs outside the serving thread, one check at a time, and its
//! results are cached. The cache holds keyed digests of user, hash and password under a key of this
//! process, never a password. Wrong credentials cannot push right ones out of it, so guessing does
//! not slow down legitimate scrapes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::header::{AUTHORIZATION, HeaderMap};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Semaphore;

/// The number of right and of wrong credentials that are cached.
const CACHED: usize = 128;
/// The most requests that wait for bcrypt. Others get 503.
const WAITING: usize = 16;
/// The end of a hash that no password matches. It makes unknown users take as long as known ones.
const UNMATCHED_TAIL: &str = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It may pass.
    Yes,
    /// It has no credentials, or wrong ones.
    No,
    /// Too many other credentials are being checked.
    Busy,
}

/// Checks credentials and caches the results.
#[derive(Debug)]
pub struct Keeper {
    key: hmac::Key,
    known: Mutex<Checked>,
    turn: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

/// The credentials that were checked lately.
#[derive(Debug, Default)]
struct Checked {
    right: VecDeque<Digest>,
    wrong: VecDeque<Digest>,
}

type Digest = [u8; 32];

impl Keeper {
    /// Makes a keeper with an empty cache and a new key.
    pub fn new() -> std::io::Result<Keeper> {
        let mut secret = [0; 32];
        let failed = |_| std::io::Error::other("the system provides no random numbers");
        SystemRandom::new().fill(&mut secret).map_err(failed)?;
        Ok(Keeper {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            known: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            queue: Arc::new(Semaphore::new(WAITING)),
        })
    }

    /// Checks the credentials of a request against `users`, pairs of name and hash.
    pub async fn check(&self, headers: &HeaderMap, users: &[(String, String)]) -> Pass {
        let Some((user, password)) = credentials(headers) else { return Pass::No };
        let known_user = users.iter().find(|(name, _)| *name == user);
        let hash = known_user.map_or_else(|| unmatched_hash(users), |(_, hash)| hash.clone());
        let digest = self.digest(&[user.as_bytes(), hash.as_bytes(), &password]);
        if let Some(answer) = self.cached(&digest) {
            return answer;
        }
        let Ok(_place) = self.queue.try_acquire() else { return Pass::Busy };
        let Ok(_turn) = self.turn.acquire().await else { return Pass::Busy };
        // Another request may have checked the same credentials while this one waited.
        if let Some(answer) = self.cached(&digest) {
            return answer;
        }
        let fits = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let fits = tokio::task::spawn_blocking(fits).await.unwrap_or(false);
        let right = fits && known_user.is_some();
        self.cache(digest, right);
        if right { Pass::Yes } else { Pass::No }
    }

    fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn cached(&self, digest: &Digest) -> Option<Pass> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.right.contains(digest) {
            Some(Pass::Yes)
        } else {
            known.wrong.contains(digest).then_some(Pass::No)
        }
    }

    fn cache(&self, digest: Digest, right: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let list = if right { &mut known.right } else { &mut known.wrong };
        if list.len() == CACHED {
            list.pop_front();
        }
        list.push_back(digest);
    }
}

/// Makes a hash that no password matches, as costly as the costliest hash of `users`.
fn unmatched_hash(users: &[(String, String)]) -> String {
    let costs = users.iter().filter_map(|(_, hash)| hash.split('$').nth(2));
    format!("$2y${}${UNMATCHED_TAIL}", costs.max().unwrap_or("10"))
}

fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let (user, password) = decoded.split_at(colon);
    let password = password.get(1..)?.to_vec();
    Some((String::from_utf8(user.to_vec()).ok()?, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Hashes of "secret" and "other" with the lowest cost.
    const SECRET: &str = "$2y$04$Yy/j1Zcftea0J.fH34dNtuhuvLAMraZHvMfdUesYmlKS1zEtFSPOu";
    const OTHER: &str = "$2y$04$KDLPN5lmim.NDpw18xcOluj2gEqAY2GcUn2Hq/r5H0kzXEPJKC.Y2";

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn credentials_are_taken_from_the_header() {
        type Row = (&'static str, Option<(&'static str, &'static [u8])>);
        let table: [Row; 8] = [
            ("Basic YWxpY2U6c2VjcmV0", Some(("alice", b"secret"))),
            ("bAsIc YTpiOmM=", Some(("a", b"b:c"))),
            ("Basic Og==", Some(("", b""))),
            ("Basic YTr/", Some(("a", b"\xff"))),
            ("Basic YWxpY2U", None),
            ("Basic YWxpY2U=", None),
            ("Basic !!!!", None),
            ("Bearer YWxpY2U6c2VjcmV0", None),
        ];
        for (value, expected) in table {
            let expected = expected.map(|(user, password)| (user.to_owned(), password.to_vec()));
            assert_eq!(credentials(&headers(value)), expected, "{value}");
        }
    }

    #[tokio::test]
    async fn credentials_are_checked() {
        let users = [("alice".to_owned(), SECRET.to_owned())];
        let keeper = Keeper::new().unwrap();
        for _ in 0..2 {
            let table = [
                ("Basic YWxpY2U6c2VjcmV0", Pass::Yes),
                ("Basic YWxpY2U6d3Jvbmc=", Pass::No),
                ("Basic Ym9iOnNlY3JldA==", Pass::No),
                ("nothing", Pass::No),
            ];
            for (value, expected) in table {
                assert_eq!(keeper.check(&headers(value), &users).await, expected, "{value}");
            }
        }
        assert_eq!(keeper.check(&HeaderMap::new(), &users).await, Pass::No);
        // A changed hash counts immediately.
        let changed = [("alice".to_owned(), OTHER.to_owned())];
        assert_eq!(keeper.check(&headers("Basic YWxpY2U6c2VjcmV0"), &changed).await, Pass::No);
    }

    #[test]
    fn an_unknown_user_costs_as_much_as_a_known_one() {
        let user = |cost: u32| (cost.to_string(), format!("$2b${cost:02}${UNMATCHED_TAIL}"));
        let users = [user(4), user(5)];
        let hash = unmatched_hash(&users);
        assert!(hash.starts_with("$2y$05$"));
        assert_eq!(bcrypt::verify("x", &hash).ok(), Some(false));
    }

    #[test]
    fn wrong_credentials_do_not_push_out_right_ones() {
        let keeper = Keeper::new().unwrap();
        let right = keeper.digest(&[b"right"]);
        keeper.cache(right, true);
        for number in 0..1000u32 {
            keeper.cache(keeper.digest(&[&number.to_be_bytes()]), false);
        }
        assert_eq!(keeper.cached(&right), Some(Pass::Yes));
        assert_eq!(keeper.known.lock().unwrap().wrong.len(), CACHED);
    }
}
