//! Takes over sessions and refresh tokens that another system issued: all of them or none.
//!
//! One JSON object a line. What is wrong is told for every wrong line at once, and never with
//! what the line holds: it may be a token, in whatever field it was put by mistake.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Sessions, SessionsError, creation};
use crate::authn::families;
use crate::rules::api_key::{Digest, Label, identifier};
use crate::rules::feed::Change;
use crate::rules::principal::{Scopes, is_grantable, is_scope_token};
use crate::rules::refresh::{self, Family, Grant, Mode};
use crate::rules::session::{Lifetime, Record};
use crate::rules::time::Timestamp;
use crate::store::{Swapped, Write};

/// Past this many seconds (the year 5138) a time was probably meant in milliseconds.
const MILLISECONDS: u64 = 100_000_000_000;

/// How far clocks may disagree.
const MOST_AHEAD: Duration = Duration::from_secs(300);

/// What a fresh one would get, where a line does not say.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// How long client sessions live.
    pub session: Lifetime,
    /// What their tokens may do.
    pub session_scopes: Scopes,
    /// How long refresh tokens live.
    pub refresh: families::Lifetime,
    /// What the access tokens that follow from them may do.
    pub access_scopes: Scopes,
}

/// A session, or a refresh token, that is taken over, and the digest of its token.
enum Taken {
    Session(Digest, Record),
    Refresh(Digest, Family),
}

impl Taken {
    fn digest(&self) -> &Digest {
        match self {
            Self::Session(digest, _) | Self::Refresh(digest, _) => digest,
        }
    }

    fn writes(&self) -> Vec<Write> {
        match self {
            Self::Session(digest, record) => creation(digest, record),
            Self::Refresh(digest, family) => families::taking_over(digest, family),
        }
    }

    /// What may have been probed is forgotten.
    fn event(&self) -> Vec<u8> {
        match self {
            Self::Session(digest, record) => Change::Session {
                id: record.id.clone(),
                digests: vec![*digest],
            },
            Self::Refresh(_, family) => Change::Family {
                id: family.id.clone(),
            },
        }
        .encode()
    }
}

/// Why nothing was imported.
#[derive(Debug)]
pub enum ImportError {
    /// These lines are wrong: their numbers from 1, and what is wrong with each.
    Lines(Vec<(usize, String)>),
    /// The lines were good and could not be kept.
    Sessions(SessionsError),
}

/// A line in the user's words.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    kind: String,
    sha256: String,
    subject: String,
    owner: Option<String>,
    key_id: Option<String>,
    scopes: Option<Vec<String>>,
    mode: Option<String>,
    created_at: u64,
    expires_at: u64,
}

impl Sessions {
    /// Takes over the sessions and refresh tokens that `text` lists, one JSON object a line, in one
    /// transaction.
    ///
    /// Each lives until its `expiresAt`, a session is prolonged by its use like any other, and
    /// none outlives what a `fresh` one would from its `createdAt`. Answers with how many there
    /// are. If the future is dropped, all were taken over or none.
    pub async fn import(&self, text: &str, fresh: &Fresh) -> Result<usize, ImportError> {
        let taken = self.understood(text, fresh)?;
        if taken.is_empty() {
            return Ok(0);
        }
        let writes = taken.iter().flat_map(Taken::writes);
        let events = taken.iter().map(Taken::event);
        let swapped = self.store.swap(writes.collect(), events.collect()).await;
        match swapped.map_err(|fault| ImportError::Sessions(fault.into()))? {
            Swapped::Committed => Ok(taken.len()),
            Swapped::Conflict => Err(ImportError::Lines(vec![(
                0,
                "one of these is in the store already".to_owned(),
            )])),
        }
    }

    fn understood(&self, text: &str, fresh: &Fresh) -> Result<Vec<Taken>, ImportError> {
        let mut taken = Vec::new();
        let mut wrong = Vec::new();
        let mut seen: HashMap<Digest, usize> = HashMap::new();
        // A byte order mark is not part of the first line.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (place, content) in text.lines().enumerate() {
            if content.trim().is_empty() {
                continue;
            }
            let number = place + 1;
            let mut id = [0; 16];
            self.fill(&mut id).map_err(ImportError::Sessions)?;
            let outcome = self.line(content, &id, fresh).and_then(|one| {
                match seen.insert(*one.digest(), number) {
                    Some(first) => Err(format!("the same token is on line {first}")),
                    None => Ok(one),
                }
            });
            match outcome {
                Ok(one) => taken.push(one),
                Err(problem) => wrong.push((number, problem)),
            }
        }
        if wrong.is_empty() {
            Ok(taken)
        } else {
            Err(ImportError::Lines(wrong))
        }
    }

    fn line(&self, content: &str, id: &[u8; 16], fresh: &Fresh) -> Result<Taken, String> {
        if !content.trim_start().starts_with('{') {
            return Err("not a JSON object".to_owned());
        }
        let line: Line = serde_json::from_str(content).map_err(|error| shape_problem(&error))?;
        let is_refresh = match &*line.kind {
            "session" => false,
            "refresh" => true,
            _ => return Err("\"kind\" must be \"session\" or \"refresh\"".to_owned()),
        };
        let digest: Digest = line
            .sha256
            .parse()
            .map_err(|_| "\"sha256\" must be 64 hexadecimal digits: the SHA-256 of the token")?;
        let digest = digest.keyed(self.pepper.as_ref());
        let label = |field: &str, text: &str| {
            Label::parse(text)
                .map(Box::<str>::from)
                .map_err(|bad| format!("{field:?} {bad}"))
        };
        let subject = label("subject", &line.subject)?;
        let owner = line.owner.as_deref().map(|owner| label("owner", owner));
        let key_owner = owner.transpose()?;
        let key_id = line.key_id.as_deref().map(|id| label("keyId", id));
        let key_id = key_id.transpose()?;
        let scopes = match line.scopes {
            Some(names) if !names.iter().all(|name| is_scope_token(name)) => {
                return Err("\"scopes\" must be a list of scopes, without spaces".to_owned());
            }
            Some(names) if !names.iter().all(|name| is_grantable(name)) => {
                return Err("\"scopes\" holds one that no token is granted".to_owned());
            }
            Some(names) => Scopes::new(names),
            None if is_refresh => fresh.access_scopes.clone(),
            None => fresh.session_scopes.clone(),
        };
        let mode = match line.mode.as_deref() {
            None | Some("cookie") => Mode::Cookie,
            Some("body") => Mode::Body,
            Some(_) => return Err("\"mode\" must be \"cookie\" or \"body\"".to_owned()),
        };
        if line.created_at >= MILLISECONDS || line.expires_at >= MILLISECONDS {
            return Err("\"createdAt\" and \"expiresAt\" must be Unix seconds".to_owned());
        }
        if line.expires_at < line.created_at {
            return Err("\"expiresAt\" lies before \"createdAt\"".to_owned());
        }
        let created_at = Timestamp::from_seconds(line.created_at);
        if created_at > self.platform.clock.now().plus(MOST_AHEAD) {
            return Err("\"createdAt\" lies in the future".to_owned());
        }
        let expires_at = Timestamp::from_seconds(line.expires_at);
        if is_refresh {
            let grant = Grant {
                subject,
                key_id,
                key_owner,
                scopes,
                chain_id: None,
                mode,
            };
            let cap = created_at.plus(fresh.refresh.ttl);
            let family = refresh::take_over(grant, digest, created_at, expires_at.min(cap), id);
            return Ok(Taken::Refresh(digest, family));
        }
        let max_expires_at = created_at.plus(fresh.session.max);
        let record = Record {
            id: identifier("session", id),
            subject,
            key_id,
            key_owner,
            scopes,
            metadata: None,
            created_at,
            expires_at: expires_at.min(max_expires_at),
            max_expires_at,
            revoked_at: None,
        };
        Ok(Taken::Session(digest, record))
    }
}

/// What is wrong with a line's shape, without any of its values.
fn shape_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // These name fields, which are our own words, and nothing else is repeated.
    if let Some(rest) = text.strip_prefix("missing field `")
        && let Some((field, _)) = rest.split_once('`')
    {
        return format!("{field:?} is missing");
    }
    if text.starts_with("unknown field") {
        return "there is a field that is not known; known here: kind, sha256, subject, owner, \
                keyId, scopes, mode, createdAt, expiresAt"
            .to_owned();
    }
    match error.classify() {
        serde_json::error::Category::Data => "a field has the wrong type".to_owned(),
        _ => "not a JSON object".to_owned(),
    }
}
