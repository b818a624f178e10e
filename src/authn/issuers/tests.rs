//! Issuers over a publication that the tests hold, in time that they hold too.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, advance};

use super::*;
use crate::authn::jwt::signing::SigningKey;
use crate::authn::jwt::verifying::VerifyingKey;
use crate::cache::feed::Pulse;
use crate::fetch::FetchError;
use crate::platform::{Authorities, Clock, Entropy, Platform};
use crate::rules::jwt::{OwnClaims, SigningAlgorithm, TokenId};
use crate::rules::principal::Scopes;
use crate::telemetry::metrics::Metrics;

const ISSUER: &str = "https://id.example.com";

/// When the tests begin.
const BEGAN: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// The runtime's paused time.
struct PausedClock(Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime's time is the tests' own"
)]
impl PausedClock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        Instant::now() - self.0
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        BEGAN.plus(self.elapsed())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.elapsed())
    }

    fn timer(&self, now: Monotonic, wait: Duration) -> Instant {
        self.0 + now.0 + wait
    }
}

/// Always the longest wait.
struct Ones;

impl Entropy for Ones {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(u8::MAX);
        Ok(())
    }
}

/// What an issuer publishes, and how often it was asked.
#[derive(Default)]
struct Site {
    /// `None`: it is down.
    document: Mutex<Option<String>>,
    asked: AtomicUsize,
}

impl Site {
    fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public_jwk()).collect();
        *self.document.lock().unwrap() = Some(json!({ "keys": keys }).to_string());
    }

    fn break_down(&self) {
        *self.document.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

struct Desk {
    site: Arc<Site>,
    issuers: Arc<Issuers>,
    pulse: Pulse,
    clock: Arc<PausedClock>,
}

impl Desk {
    /// An issuer that publishes these keys, which have been fetched.
    async fn publishing(keys: &[&SigningKey]) -> Self {
        let desk = Self::before(keys);
        desk.published().first_attempt().await;
        desk
    }

    fn before(keys: &[&SigningKey]) -> Self {
        let site = Arc::new(Site::default());
        if !keys.is_empty() {
            site.publish(keys);
        }
        let clock = Arc::new(PausedClock::new());
        let mut desk = Self {
            site,
            issuers: Arc::new(Issuers::none()),
            pulse: Pulse::new(),
            clock,
        };
        desk.issuers = Arc::new(desk.trusting(&[Algorithm::Es256], None));
        desk
    }

    /// The issuers where tokens may be signed so, beginning with what was fetched `before`.
    fn trusting(&self, algorithms: &[Algorithm], before: Option<&Published>) -> Issuers {
        let platform = Platform {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::new(Ones),
            ..Platform::system()
        };
        let asked = Arc::clone(&self.site);
        let fetch: Fetch = Arc::new(move |_, _| {
            asked.asked.fetch_add(1, Ordering::Relaxed);
            let document = asked.document.lock().unwrap().clone();
            Box::pin(async move {
                // As long as a network takes.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let document = document.map(Bytes::from);
                document.ok_or_else(|| FetchError::Connect(io::ErrorKind::ConnectionRefused.into()))
            })
        });
        let location = Location::parse("https://id.example.com/jwks", Authorities::OfMachine);
        let config = Config {
            issuer: ISSUER.into(),
            audience: vec!["api".into()],
            keys: Source::Published(Publication {
                location: location.unwrap(),
                algorithms: algorithms.into(),
            }),
        };
        Issuers::new(&[config], 100, |publication| {
            Arc::new(Published::keep(
                publication.clone(),
                before,
                Arc::clone(&fetch),
                self.pulse.clone(),
                platform.clone(),
                Metrics::new(1),
            ))
        })
    }

    fn published(&self) -> Arc<Published> {
        Arc::clone(self.issuers.published().next().unwrap())
    }

    async fn verify(&self, token: &str) -> Result<Option<Arc<TrustedToken>>, Refusal> {
        self.verify_if(token, || Ok(())).await
    }

    async fn verify_if(
        &self,
        token: &str,
        before_asking: impl FnOnce() -> Result<(), Reject>,
    ) -> Result<Option<Arc<TrustedToken>>, Refusal> {
        let issuer = self.issuers.named(ISSUER).unwrap();
        let digest = Digest::of(token.as_bytes());
        let now = self.clock.monotonic();
        self.issuers
            .verify(issuer, token.as_bytes(), digest, now, before_asking)
            .await
    }

    fn judge(&self, token: &TrustedToken) -> Result<(), Refusal> {
        self.issuers
            .judge(token, self.clock.now(), self.clock.monotonic())
    }

    /// Takes so many seconds, and lets the task that fetches do what is due.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

fn key() -> SigningKey {
    SigningKey::generate(SigningAlgorithm::Es256).unwrap()
}

/// A token that lives ten days.
fn token(key: &SigningKey) -> String {
    token_for(key, "api")
}

fn token_for(key: &SigningKey, audience: &str) -> String {
    let claims = OwnClaims {
        issuer: ISSUER.into(),
        subject: "ada".into(),
        audience: vec![audience.into()],
        issued_at: BEGAN,
        not_before: BEGAN,
        expires_at: BEGAN.plus(Duration::from_secs(10 * 86_400)),
        id: TokenId::new("session", 1, &[7; 16]),
        scopes: Scopes::new(["portfolio:read"]),
        methods: Vec::new(),
        client_id: "client".into(),
    };
    key.sign(&claims).unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_token_says_who_bears_it_by_whose_word() {
    let signing = key();
    let desk = Desk::publishing(&[&signing]).await;
    let found = desk.verify(&token(&signing)).await.unwrap().unwrap();
    assert_eq!(&*found.identity.subject, "ada");
    assert_eq!(found.identity.scopes.joined(), "portfolio:read");
    assert_eq!(found.identity.issuer_value.as_ref().unwrap(), ISSUER);
    // Its sessions are no sessions of gatelet's.
    assert_eq!(found.identity.session_value, None);
    assert_eq!(desk.judge(&found), Ok(()));
    let digest = Digest::of(token(&signing).as_bytes());
    assert!(
        desk.issuers.remembered(&digest).is_none(),
        "another signature"
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_for_somebody_else_is_none() {
    let signing = key();
    let desk = Desk::publishing(&[&signing]).await;
    let found = desk.verify(&token_for(&signing, "other")).await;
    assert!(found.unwrap().is_none());
    assert_eq!(desk.site.asked(), 1, "nobody was asked about it");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refused_from_its_expiry_on() {
    let signing = key();
    let desk = Desk::publishing(&[&signing]).await;
    let found = desk.verify(&token(&signing)).await.unwrap().unwrap();
    desk.pass(10 * 86_400).await;
    assert_eq!(desk.judge(&found), Err(Reject::TokenExpired.into()));
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_ahead_of_need() {
    let (old, new) = (key(), key());
    let desk = Desk::publishing(&[&old]).await;
    desk.site.publish(&[&old, &new]);
    desk.pass(331).await;
    assert_eq!(desk.site.asked(), 2);
    assert!(desk.verify(&token(&new)).await.unwrap().is_some());
    assert_eq!(desk.site.asked(), 2, "the new key was there already");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_asked_about_once_in_ten_seconds() {
    let (old, new) = (key(), key());
    let desk = Desk::publishing(&[&old]).await;
    desk.site.publish(&[&new]);
    advance(Duration::from_millis(9_999)).await;
    assert!(desk.verify(&token(&new)).await.unwrap().is_none());
    assert_eq!(desk.site.asked(), 1);

    advance(Duration::from_millis(1)).await;
    let desk = Arc::new(desk);
    let asking = (0..50).map(|_| {
        let (desk, token) = (Arc::clone(&desk), token(&new));
        tokio::spawn(async move { desk.verify(&token).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert!(asked.await.unwrap().unwrap().is_some());
    }
    assert_eq!(desk.site.asked(), 2, "one fetch for all");

    // For keys that are none of the issuer's no more often; it need not be asked for again.
    for _ in 0..50 {
        assert!(desk.verify(&token(&key())).await.unwrap().is_none());
    }
    assert_eq!(desk.site.asked(), 2);
    desk.pass(9).await;
    assert_eq!(desk.site.asked(), 2);
    desk.pass(2).await;
    assert_eq!(desk.site.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_stranger_asks_about_does_not_hide_a_rotation() {
    let (old, new) = (key(), key());
    let desk = Desk::publishing(&[&old]).await;
    desk.pass(10).await;
    assert!(desk.verify(&token(&key())).await.unwrap().is_none());
    desk.site.publish(&[&new]);
    // The next ten seconds have been used up. It is asked about nonetheless, as soon as may be.
    assert!(desk.verify(&token(&new)).await.unwrap().is_none());
    desk.pass(11).await;
    assert!(desk.verify(&token(&new)).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn keys_that_change_are_told_of() {
    let (old, new) = (key(), key());
    let desk = Desk::publishing(&[&old]).await;
    let mut beats = desk.pulse.listen();
    desk.pass(331).await;
    assert!(!beats.has_changed().unwrap(), "they are the same");
    desk.site.publish(&[&new]);
    desk.pass(331).await;
    assert!(beats.has_changed().unwrap());
    beats.mark_unchanged();
    desk.site.break_down();
    desk.pass(331).await;
    assert!(
        !beats.has_changed().unwrap(),
        "the last good ones are believed"
    );
}

#[tokio::test(start_paused = true)]
async fn another_configuration_begins_with_what_was_fetched() {
    let signing = key();
    let mut desk = Desk::publishing(&[&signing]).await;
    desk.site.break_down();
    let both = [Algorithm::Rs256, Algorithm::Es256];
    desk.issuers = Arc::new(desk.trusting(&both, Some(&desk.published())));
    assert!(desk.verify(&token(&signing)).await.unwrap().is_some());
    // What the other one does not allow is not taken from it.
    let rsa = [Algorithm::Rs256];
    desk.issuers = Arc::new(desk.trusting(&rsa, Some(&desk.published())));
    assert!(desk.verify(&token(&signing)).await.is_err());
    desk.pass(86_400).await;
    assert!(desk.verify(&token(&signing)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_ask_causes_no_fetch() {
    let desk = Desk::publishing(&[&key()]).await;
    desk.pass(10).await;
    let limited = Reject::RateLimited { retry_after: 1 };
    let refused = desk
        .verify_if(&token(&key()), || Err(limited.clone()))
        .await;
    assert_eq!(refused.unwrap_err(), limited.into());
    assert_eq!(desk.site.asked(), 1);
    // While nobody has any keys, nobody is charged for that.
    let desk = Desk::publishing(&[]).await;
    let token = token(&key());
    let refused = desk.verify_if(&token, || Err(Reject::TokenInvalid)).await;
    assert_eq!(refused.unwrap_err(), Fault::IssuerUnavailable.into());
}

#[tokio::test(start_paused = true)]
async fn the_first_requests_wait_for_the_first_fetch() {
    let signing = key();
    let desk = Desk::before(&[&signing]);
    assert!(desk.verify(&token(&signing)).await.unwrap().is_some());
    assert_eq!(desk.site.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_never_reached_is_a_breakage_and_asked_ever_more_seldom() {
    let signing = key();
    let desk = Desk::publishing(&[]).await;
    for waits in [1, 2, 4, 8, 16, 32, 60, 60] {
        let asked = desk.site.asked();
        tokio::time::sleep(Duration::from_millis(waits * 1_000 - 1)).await;
        assert_eq!(desk.site.asked(), asked, "{waits}");
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(desk.site.asked(), asked + 1, "{waits}");
        // Until that has failed as well.
        tokio::time::sleep(Duration::from_millis(49)).await;
    }
    // Nobody waits for it, and whoever comes has it asked within ten seconds.
    let before = desk.clock.monotonic();
    let asked = desk.verify(&token(&signing)).await;
    assert_eq!(asked.unwrap_err(), Fault::IssuerUnavailable.into());
    assert_eq!(desk.clock.monotonic(), before);
    desk.site.publish(&[&signing]);
    desk.pass(11).await;
    assert!(desk.verify(&token(&signing)).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_token_at_all_is_refused_without_any_keys() {
    let signing = key();
    let desk = Desk::publishing(&[]).await;
    let cut = token(&signing).replace('.', "");
    assert!(desk.verify(&cut).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_are_believed_for_a_day() {
    let signing = key();
    let desk = Desk::publishing(&[&signing]).await;
    let found = desk.verify(&token(&signing)).await.unwrap().unwrap();
    desk.site.break_down();
    desk.pass(86_300).await;
    assert_eq!(desk.judge(&found), Ok(()));
    assert!(desk.verify(&token(&signing)).await.unwrap().is_some());
    // Of another key nobody can say anything.
    let unavailable = Refusal::from(Fault::IssuerUnavailable);
    assert_eq!(desk.verify(&token(&key())).await.unwrap_err(), unavailable);
    desk.pass(200).await;
    assert_eq!(desk.judge(&found), Err(unavailable.clone()));
    assert_eq!(
        desk.verify(&token(&signing)).await.unwrap_err(),
        unavailable
    );
    desk.site.publish(&[&signing]);
    desk.pass(61).await;
    assert_eq!(desk.judge(&found), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_broken_document_leaves_the_last_good_keys_in_force() {
    let signing = key();
    let desk = Desk::publishing(&[&signing]).await;
    let found = desk.verify(&token(&signing)).await.unwrap().unwrap();
    let mut broken = VecDeque::from(["", "<html>", "{}", r#"{"keys":{}}"#]);
    while let Some(document) = broken.pop_front() {
        *desk.site.document.lock().unwrap() = Some(document.to_owned());
        desk.pass(400).await;
        assert_eq!(desk.judge(&found), Ok(()), "{document:?}");
    }
    assert!(desk.site.asked() > 4);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_withdrawn_ends_its_tokens() {
    let (one, two) = (key(), key());
    let desk = Desk::publishing(&[&one, &two]).await;
    let first = desk.verify(&token(&one)).await.unwrap().unwrap();
    let second = desk.verify(&token(&two)).await.unwrap().unwrap();
    desk.site.publish(&[&two]);
    desk.pass(331).await;
    assert_eq!(desk.judge(&first), Err(Reject::TokenInvalid.into()));
    assert_eq!(desk.judge(&second), Ok(()));
    // Nor does an issuer without keys have tokens.
    desk.site.publish(&[]);
    desk.pass(331).await;
    assert_eq!(desk.judge(&second), Err(Reject::TokenInvalid.into()));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_trusted_no_more_has_no_tokens() {
    let signing = key();
    let desk = Desk::publishing(&[&signing]).await;
    let found = desk.verify(&token(&signing)).await.unwrap().unwrap();
    let (wall, now) = (desk.clock.now(), desk.clock.monotonic());
    let verifying: VerifyingKey = signing.verifying_key().unwrap();
    let keys = Arc::new(KeySet::new([verifying]));
    let with = |issuer: &str, audience: &str, keys: &Arc<KeySet>| {
        let config = Config {
            issuer: issuer.into(),
            audience: vec![audience.into()],
            keys: Source::Given(Arc::clone(keys)),
        };
        Issuers::new(&[config], 100, |_| desk.published()).judge(&found, wall, now)
    };
    assert_eq!(with(ISSUER, "api", &keys), Ok(()), "the same from a file");
    let refused = Err(Reject::TokenInvalid.into());
    assert_eq!(with("https://other.example.com", "api", &keys), refused);
    assert_eq!(with(ISSUER, "other", &keys), refused);
    assert_eq!(with(ISSUER, "api", &Arc::default()), refused);
    assert_eq!(Issuers::none().judge(&found, wall, now), refused);
}
