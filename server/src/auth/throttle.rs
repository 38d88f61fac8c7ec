//! Slows down guessing: a few failing sign-ins, then a wait. What counts is who asks, so that whoever guesses
//! the password of an account keeps its owner out from nowhere but the guesser's own network. The limits hold
//! for unknown accounts too, so that they tell nobody which accounts exist. docs/signing-in.md says what an
//! operator must know.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::AppError;

/// Keys remembered before those at rest are forgotten.
const MOST_KEYS: usize = 10_000;

/// Failures at once, and how long each further one takes to be allowed.
struct Quota {
    burst: f64,
    every: Duration,
}

impl Quota {
    /// What is left of failures after some time.
    fn left(&self, (n, at): (f64, Instant), now: Instant) -> f64 {
        let forgotten = now.saturating_duration_since(at).as_secs_f64();
        (n - forgotten / self.every.as_secs_f64()).max(0.0)
    }
}

/// Of one account from one network.
const OF_PAIR: Quota = Quota {
    burst: 6.0,
    every: Duration::from_secs(30),
};

/// From one network, whatever the account: whoever tries one password with many accounts.
const OF_NETWORK: Quota = Quota {
    burst: 30.0,
    every: Duration::from_secs(6),
};

/// Of one account from all networks that it has not signed in from: whoever guesses from many.
const OF_ACCOUNT: Quota = Quota {
    burst: 30.0,
    every: Duration::from_secs(30),
};

/// An account and where somebody signs in to it from; none where the connection does not say.
type Pair = (String, Option<IpAddr>);

/// Limits on failing sign-ins.
pub struct SignInThrottle {
    counts: Mutex<Counts>,
}

/// What is counted. Under one lock, so that all limits are looked at before any is used up.
struct Counts {
    networks: Limit<IpAddr>,
    pairs: Limit<Pair>,
    accounts: Limit<String>,
    /// From where accounts have signed in since the program started.
    known: HashSet<Pair>,
}

/// A try that was let through. It counts as a failure until it is said that it was none.
#[derive(Debug)]
pub struct Try {
    pair: Pair,
    is_known: bool,
}

impl Default for SignInThrottle {
    fn default() -> Self {
        Self::new()
    }
}

impl SignInThrottle {
    /// Fresh limits.
    pub fn new() -> Self {
        let counts = Counts {
            networks: Limit::new(OF_NETWORK),
            pairs: Limit::new(OF_PAIR),
            accounts: Limit::new(OF_ACCOUNT),
            known: HashSet::new(),
        };
        Self {
            counts: Mutex::new(counts),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one try for an account, by its address of at most 254 bytes, from a network address.
    ///
    /// # Errors
    /// `TooManyRequests` with the seconds to wait.
    pub fn begin(&self, email: &str, address: Option<IpAddr>) -> Result<Try, AppError> {
        self.begin_at(email, address, Instant::now())
    }

    fn begin_at(
        &self,
        email: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Try, AppError> {
        let network = address.map(network);
        let pair = (email.to_owned(), network);
        let mut counts = self.counts();
        let is_known = counts.known.contains(&pair);
        // Who is refused by one limit uses up nothing of the others: whoever tries an account that somebody
        // attacks keeps nobody else of their network out, and a network that has had its tries leaves no names
        // behind in memory.
        let waits = [
            network.and_then(|network| counts.networks.wait(&network, now)),
            counts.pairs.wait(&pair, now),
            match is_known {
                true => None,
                false => counts.accounts.wait(&pair.0, now),
            },
        ];
        if let Some(longest) = waits.into_iter().flatten().max() {
            return Err(too_many(longest));
        }
        if let Some(network) = network {
            counts.networks.count(network, now);
        }
        counts.pairs.count(pair.clone(), now);
        if !is_known {
            counts.accounts.count(pair.0.clone(), now);
        }
        Ok(Try { pair, is_known })
    }

    /// Takes a try back that was no guess.
    pub fn succeeded(&self, own: Try) {
        let mut counts = self.counts();
        counts.give_back(&own);
        if !own.is_known {
            // Whoever is forgotten is treated as everybody else.
            if counts.known.len() >= MOST_KEYS {
                counts.known.clear();
            }
            counts.known.insert(own.pair);
        }
    }

    /// Takes a try back of which nobody knows what it was: we failed before the password was looked at.
    pub fn undecided(&self, own: &Try) {
        self.counts().give_back(own);
    }
}

impl Counts {
    fn give_back(&mut self, own: &Try) {
        if let Some(network) = &own.pair.1 {
            self.networks.give_back(network);
        }
        self.pairs.give_back(&own.pair);
        if !own.is_known {
            self.accounts.give_back(&own.pair.0);
        }
    }
}

/// How much of a quota each key has used up.
struct Limit<K> {
    quota: Quota,
    /// Failures that are not forgotten yet, and when that was so.
    used: HashMap<K, (f64, Instant)>,
    /// Keys from which on those at rest are looked for.
    sweep_at: usize,
}

impl<K: Eq + Hash> Limit<K> {
    fn new(quota: Quota) -> Self {
        Self {
            quota,
            used: HashMap::new(),
            sweep_at: MOST_KEYS,
        }
    }

    /// Failures of a key that are not forgotten yet.
    fn left(&self, key: &K, now: Instant) -> f64 {
        let own = self.used.get(key);
        own.map_or(0.0, |own| self.quota.left(*own, now))
    }

    /// How long to wait until one more failure is allowed; none where it is.
    fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let above = self.left(key, now) + 1.0 - self.quota.burst;
        (above > 0.0).then(|| self.quota.every.mul_f64(above))
    }

    /// Counts a failure.
    fn count(&mut self, key: K, now: Instant) {
        // Memory stays flat under a flood of names: what is forgotten goes.
        if self.used.len() >= self.sweep_at {
            let quota = &self.quota;
            self.used.retain(|_, own| quota.left(*own, now) > 0.0);
            self.sweep_at = MOST_KEYS.max(2 * self.used.len());
        }
        let n = self.left(&key, now) + 1.0;
        self.used.insert(key, (n, now));
    }

    fn give_back(&mut self, key: &K) {
        if let Some((n, _)) = self.used.get_mut(key) {
            *n = (*n - 1.0).max(0.0);
        }
    }
}

fn too_many(wait: Duration) -> AppError {
    AppError::TooManyRequests {
        retry_after_seconds: wait.as_secs_f64().ceil().max(1.0) as u64,
    }
}

/// What one asker is counted by: an IPv4 address, or an IPv6 network of 64 bits, since that many
/// addresses are one household's.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn from(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_seventh_failure_waits_half_a_minute_and_a_success_is_no_failure() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |seconds| {
            let now = now + Duration::from_secs(seconds);
            throttle.begin_at("ada@example.org", from(1), now)
        };
        for _ in 0..20 {
            throttle.succeeded(begin(0).unwrap());
        }
        for _ in 0..6 {
            assert!(begin(0).is_ok());
        }
        let refused = begin(0).unwrap_err();
        let AppError::TooManyRequests {
            retry_after_seconds,
        } = refused
        else {
            panic!("{refused}")
        };
        assert_eq!(retry_after_seconds, 30);
        assert!(begin(29).is_err());
        assert!(begin(31).is_ok() && begin(31).is_err());
        assert!(throttle.begin("grace@example.org", from(1)).is_ok());
    }

    #[test]
    fn whoever_guesses_does_not_keep_the_owner_out() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |last| throttle.begin_at("ada@example.org", from(last), now);
        // From one address, the owner signs in from another.
        while begin(1).is_ok() {}
        throttle.succeeded(begin(2).unwrap());
        // From very many: those that the account is known from are let in, others wait.
        for last in 3..40 {
            while begin(last).is_ok() {}
        }
        assert!(begin(200).is_err());
        for _ in 0..6 {
            assert!(begin(2).is_ok());
        }
    }

    #[test]
    fn one_address_does_not_try_many_accounts() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |n: usize| throttle.begin_at(&format!("user{n}@example.org"), from(1), now);
        for n in 0..30 {
            assert!(begin(n).is_ok());
        }
        assert!(begin(30).is_err());
        assert!(
            throttle
                .begin_at("user30@example.org", from(2), now)
                .is_ok()
        );
    }

    /// Ada is attacked from everywhere; what she tries from a new office uses up nothing of her colleagues'.
    #[test]
    fn whoever_is_refused_for_an_account_uses_up_nothing_of_their_network() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |email: &str, last| throttle.begin_at(email, from(last), now);
        for last in 1..=5 {
            while begin("ada@example.org", last).is_ok() {}
        }
        for _ in 0..100 {
            assert!(begin("ada@example.org", 77).is_err());
        }
        for n in 0..30 {
            let email = format!("colleague{n}@example.org");
            assert!(begin(&email, 77).is_ok(), "{email}");
        }
    }

    #[test]
    fn a_network_that_has_had_its_tries_leaves_no_names_behind() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        for n in 0..1_000 {
            let _ = throttle.begin_at(&format!("user{n}@example.org"), from(1), now);
        }
        let counts = throttle.counts();
        assert_eq!(
            (counts.pairs.used.len(), counts.accounts.used.len()),
            (30, 30)
        );
    }

    #[test]
    fn a_try_that_was_not_decided_is_no_failure_and_makes_no_place_known() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |last| throttle.begin_at("ada@example.org", from(last), now);
        for _ in 0..50 {
            throttle.undecided(&begin(1).unwrap());
        }
        assert!(throttle.counts().known.is_empty());
        for last in 2..=6 {
            while begin(last).is_ok() {}
        }
        assert!(begin(1).is_err());
    }

    #[test]
    fn who_is_refused_twice_is_told_the_longer_wait() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |email: &str| throttle.begin_at(email, from(1), now);
        for n in 0..24 {
            assert!(begin(&format!("user{n}@example.org")).is_ok());
        }
        for _ in 0..6 {
            assert!(begin("ada@example.org").is_ok());
        }
        // The network waits for 6 seconds, the account for 30.
        let refused = begin("ada@example.org").unwrap_err();
        assert!(matches!(
            refused,
            AppError::TooManyRequests {
                retry_after_seconds: 30
            }
        ));
    }

    #[test]
    fn keys_at_rest_are_forgotten() {
        let (mut limit, now) = (Limit::new(OF_PAIR), Instant::now());
        for key in 0..MOST_KEYS {
            limit.count(key, now);
        }
        let later = now + Duration::from_secs(60);
        limit.count(MOST_KEYS, later);
        assert_eq!(limit.used.len(), 1);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_counted_together() {
        let parse = |text: &str| text.parse::<IpAddr>().map(network);
        assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:ffff::9"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("::ffff:192.0.2.7"), parse("192.0.2.7"));
        assert_ne!(parse("192.0.2.8"), parse("192.0.2.7"));
    }
}
