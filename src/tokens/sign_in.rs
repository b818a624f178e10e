//! Sign-in with a wallet: a nonce, and the message with it that the wallet signed (EIP-4361).

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::authn::access_token::AccessTokens;
use crate::authn::api_key::Key;
use crate::authn::nonces::{Nonces, Sealer};
use crate::rules::decision::{Fault, Refusal, Reject};
use crate::rules::nonce::Nonce;
use crate::rules::principal::{Scopes, is_grantable};
use crate::rules::refresh::{Grant, Mode};
use crate::rules::siwe::{self, Expected, Message};
use crate::rules::wallet::{Address, BadSignature, Signature, recover};
use crate::telemetry::metrics::SignIn;

use super::sessions::issuing_key;
use super::{Call, Tokens, Wallet, body, failure};

/// What a request for a nonce says.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    #[serde(alias = "wallet")]
    address: Option<String>,
    chain_id: Option<u64>,
    domain: Option<String>,
}

/// What a sign-in says.
#[derive(Default, Deserialize)]
struct Shown {
    message: Option<String>,
    #[serde(alias = "address")]
    wallet: Option<String>,
    nonce: Option<String>,
    signature: Option<String>,
    mode: Option<String>,
}

impl Tokens {
    pub(super) async fn issue_nonce(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let (wallet, nonces) = self.wallet()?;
        let key = issuing_key(call)?;
        let wanted: Wanted = body::json(call.fields, &call.body)?;
        let domain = match &wanted.domain {
            None => &wallet.domains[0],
            Some(named) => wallet
                .domains
                .iter()
                .find(|domain| domain.eq_ignore_ascii_case(named))
                .ok_or(Reject::RequestMalformed(
                    "the domain is none of those that may be signed in to",
                ))?,
        };
        let chain_id = match wanted.chain_id {
            None => wallet.chains[0],
            Some(chain) if wallet.chains.contains(&chain) => chain,
            Some(_) => {
                let why = "the chain is none of those that may be signed in on";
                return Err(Reject::RequestMalformed(why).into());
            }
        };
        let address = wanted.address.as_deref().map(parse_address).transpose()?;
        let sealer = sealer(nonces).await?;
        let issued = sealer.issue(chain_id, wallet.nonce_ttl, &key.id, domain);
        let (text, nonce) = issued.map_err(|error| failure(&error))?;
        let uri = uri_of(domain);
        let mut answer = json!({
            "nonce": text,
            "expiresAt": nonce.expires_at.seconds(),
            "domain": domain,
            "uri": uri,
            "version": "1",
            "chains": wallet.chains,
            "statement": wallet.statement,
        });
        if let Some(address) = address {
            let message = message(wallet, domain, &uri, address, &text, &nonce);
            answer["message"] = message.to_string().into();
        }
        Ok(self.json(StatusCode::CREATED, &answer))
    }

    pub(super) async fn sign_in(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let outcome = self.signed_in(call).await;
        let counted = match &outcome {
            Ok(_) => SignIn::Accepted,
            Err(Refusal::Reject(_)) => SignIn::Refused,
            Err(Refusal::Fault(_)) => SignIn::Failed,
        };
        call.metrics.sign_in(counted);
        outcome
    }

    async fn signed_in(&self, call: &Call<'_>) -> Result<Response<Bytes>, Refusal> {
        let (wallet, nonces) = self.wallet()?;
        let access = self.access()?;
        let key = issuing_key(call)?;
        let shown: Shown = body::json(call.fields, &call.body)?;
        let mode = mode(shown.mode.as_deref())?;
        let signature = shown
            .signature
            .ok_or(Reject::RequestMalformed("the body has no signature"))?;
        let sealer = sealer(nonces).await?;
        let text = match (shown.message, shown.wallet, shown.nonce) {
            (Some(message), None, None) => message,
            (None, Some(address), Some(nonce)) => told(wallet, &sealer, &address, &nonce, key)?,
            _ => {
                let why = "the body has neither a message nor a wallet with its nonce";
                return Err(Reject::RequestMalformed(why).into());
            }
        };
        let message = Message::parse(text.as_bytes())
            .map_err(|siwe::Malformed(why)| Reject::MessageInvalid(why))?;
        let expected = Expected {
            domains: &wallet.domains,
            chains: &wallet.chains,
            now: call.wall,
        };
        siwe::judge(&message, &expected)
            .map_err(|mismatch| Reject::MessageInvalid(mismatch.reason()))?;
        let nonce = wallet
            .domains
            .iter()
            .filter(|domain| domain.eq_ignore_ascii_case(message.domain))
            .find_map(|domain| sealer.read(message.nonce, &key.id, domain))
            .ok_or(Reject::NonceInvalid)?;
        // Before the signature is looked at: each nonce is good for one try.
        let spent = nonces
            .spend(&nonce)
            .await
            .map_err(|error| failure(&error))?;
        if !spent {
            return Err(Reject::NonceInvalid.into());
        }
        let signature = Signature::parse(&signature).map_err(|bad| match bad {
            BadSignature::Contract => Reject::WalletUnsupported,
            BadSignature::Malformed(_) => Reject::SignatureInvalid,
        })?;
        if recover(text.as_bytes(), &signature) != Some(message.address) {
            return Err(Reject::SignatureInvalid.into());
        }
        let grant = Grant {
            subject: message.address.to_string().into(),
            key_id: Some((*key.id).into()),
            key_owner: key.owner.clone(),
            scopes: granted(access, key),
            chain_id: Some(message.chain_id),
            mode,
        };
        let begun = access.families().begin(grant, self.config.refresh).await;
        let (family, token) = begun.map_err(|error| failure(&error))?;
        self.tokens(call, StatusCode::CREATED, &family, &token)
    }

    fn wallet(&self) -> Result<(&Wallet, &Nonces), Refusal> {
        // The routes are there only with both.
        let nonces = self.authenticators.nonces.as_deref();
        let both = self.config.wallet.as_ref().zip(nonces);
        both.ok_or_else(|| Fault::StoreUnavailable.into())
    }
}

async fn sealer(nonces: &Nonces) -> Result<Sealer<'_>, Refusal> {
    nonces.sealer().await.map_err(|error| failure(&error))
}

/// What a sign-in grants: what the configuration says, as far as the key that was used may do it.
fn granted(access: &AccessTokens, key: &Key) -> Scopes {
    let scopes = access.config().scopes.iter();
    let may = |scope: &&str| {
        is_grantable(scope)
            && (key.identity.scopes.is_empty() || key.identity.scopes.contains(scope))
    };
    Scopes::new(scopes.filter(may))
}

/// The very message that came with this nonce.
fn told(
    wallet: &Wallet,
    sealer: &Sealer<'_>,
    address: &str,
    text: &str,
    key: &Key,
) -> Result<String, Reject> {
    let address = parse_address(address)?;
    let found = wallet.domains.iter().find_map(|domain| {
        let nonce = sealer.read(text, &key.id, domain)?;
        Some((domain, nonce))
    });
    let (domain, nonce) = found.ok_or(Reject::NonceInvalid)?;
    let uri = uri_of(domain);
    Ok(message(wallet, domain, &uri, address, text, &nonce).to_string())
}

fn message<'a>(
    wallet: &'a Wallet,
    domain: &'a str,
    uri: &'a str,
    address: Address,
    text: &'a str,
    nonce: &Nonce,
) -> Message<'a> {
    Message {
        scheme: None,
        domain,
        address,
        statement: wallet.statement.as_deref(),
        uri,
        chain_id: nonce.chain_id,
        nonce: text,
        issued_at: nonce.issued_at,
        expiration_time: Some(nonce.expires_at),
        not_before: None,
        request_id: None,
        resources: Vec::new(),
    }
}

fn parse_address(text: &str) -> Result<Address, Reject> {
    Address::parse(text).map_err(|bad| Reject::RequestMalformed(bad.reason()))
}

/// Where a domain is signed in to: over TLS, unless it is this very machine.
fn uri_of(domain: &str) -> String {
    let host = domain.rsplit_once(':').map_or(domain, |(host, _)| host);
    let local = host == "localhost" || host == "127.0.0.1" || host == "[::1]";
    let scheme = if local { "http" } else { "https" };
    format!("{scheme}://{domain}")
}

fn mode(said: Option<&str>) -> Result<Mode, Reject> {
    match said {
        None | Some("cookie") => Ok(Mode::Cookie),
        Some("body") => Ok(Mode::Body),
        Some(_) => Err(Reject::RequestMalformed(
            "the mode is neither \"cookie\" nor \"body\"",
        )),
    }
}
