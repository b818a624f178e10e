//! Takes over sessions that another system issued: all of them or none.
//!
//! One JSON object a line. What is wrong is told for every wrong line at once, and never with
//! what the line holds: it may be a token, in whatever field it was put by mistake.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Sessions, SessionsError, creation};
use crate::rules::api_key::{Digest, Label, identifier};
use crate::rules::feed::Change;
use crate::rules::principal::{Scopes, is_scope_token};
use crate::rules::session::{Lifetime, Record};
use crate::rules::time::Timestamp;
use crate::store::Swapped;

/// Past this many seconds (the year 5138) a time was probably meant in milliseconds.
const MILLISECONDS: u64 = 100_000_000_000;

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
    created_at: u64,
    expires_at: u64,
}

impl Sessions {
    /// Takes over the sessions that `text` lists, one JSON object a line, in one transaction.
    ///
    /// A session lives until its `expiresAt`, is prolonged by its use like any other, and never
    /// outlives `lifetime` from its `createdAt`. Answers with how many there are. If the future is
    /// dropped, all were taken over or none.
    pub async fn import(&self, text: &str, lifetime: Lifetime) -> Result<usize, ImportError> {
        let records = self.understood(text, lifetime)?;
        if records.is_empty() {
            return Ok(0);
        }
        let writes = records
            .iter()
            .flat_map(|(digest, record)| creation(digest, record));
        let payloads = records.iter().map(|(digest, record)| {
            let change = Change::Session {
                id: record.id.clone(),
                digests: vec![*digest],
            };
            change.encode()
        });
        let swapped = self.store.swap(writes.collect(), payloads.collect()).await;
        match swapped.map_err(|fault| ImportError::Sessions(fault.into()))? {
            Swapped::Committed { .. } => Ok(records.len()),
            Swapped::Conflict => Err(ImportError::Lines(vec![(
                0,
                "one of these sessions is in the store already".to_owned(),
            )])),
        }
    }

    fn understood(
        &self,
        text: &str,
        lifetime: Lifetime,
    ) -> Result<Vec<(Digest, Record)>, ImportError> {
        let mut records = Vec::new();
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
            let outcome = understood(content, &id, lifetime).and_then(|(digest, record)| {
                let digest = digest.keyed(self.pepper.as_ref());
                match seen.insert(digest, number) {
                    Some(first) => Err(format!("the same token is on line {first}")),
                    None => Ok((digest, record)),
                }
            });
            match outcome {
                Ok(understood) => records.push(understood),
                Err(problem) => wrong.push((number, problem)),
            }
        }
        if wrong.is_empty() {
            Ok(records)
        } else {
            Err(ImportError::Lines(wrong))
        }
    }
}

fn understood(
    content: &str,
    id: &[u8; 16],
    lifetime: Lifetime,
) -> Result<(Digest, Record), String> {
    let line: Line = serde_json::from_str(content).map_err(|error| shape_problem(&error))?;
    if line.kind != "session" {
        return Err("\"kind\" must be \"session\"".to_owned());
    }
    let digest: Digest = line
        .sha256
        .parse()
        .map_err(|_| "\"sha256\" must be 64 hexadecimal digits: the SHA-256 of the token")?;
    let label = |field: &str, text: &str| {
        Label::parse(text)
            .map(Box::<str>::from)
            .map_err(|bad| format!("{field:?} {bad}"))
    };
    let subject = label("subject", &line.subject)?;
    let key_owner = line
        .owner
        .as_deref()
        .map(|owner| label("owner", owner))
        .transpose()?;
    let key_id = line
        .key_id
        .as_deref()
        .map(|id| label("keyId", id))
        .transpose()?;
    let scopes = line.scopes.unwrap_or_default();
    if !scopes.iter().all(|scope| is_scope_token(scope)) {
        return Err("\"scopes\" must be a list of scopes, without spaces".to_owned());
    }
    if line.created_at >= MILLISECONDS || line.expires_at >= MILLISECONDS {
        return Err("\"createdAt\" and \"expiresAt\" must be Unix seconds".to_owned());
    }
    if line.expires_at < line.created_at {
        return Err("\"expiresAt\" lies before \"createdAt\"".to_owned());
    }
    let created_at = Timestamp::from_seconds(line.created_at);
    let max_expires_at = created_at.plus(lifetime.max);
    let record = Record {
        id: identifier("session", id),
        subject,
        key_id,
        key_owner,
        scopes: Scopes::new(scopes),
        metadata: None,
        created_at,
        expires_at: Timestamp::from_seconds(line.expires_at).min(max_expires_at),
        max_expires_at,
        revoked_at: None,
    };
    Ok((digest, record))
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
                keyId, scopes, createdAt, expiresAt"
            .to_owned();
    }
    match error.classify() {
        serde_json::error::Category::Data => "a field has the wrong type".to_owned(),
        _ => "not a JSON object".to_owned(),
    }
}
