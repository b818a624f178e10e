//! The demo's own wallet, and how it signs in: like any client, over HTTP.

use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;

use k256::ecdsa::SigningKey;
use serde_json::{Value, json};
use sha3::{Digest, Keccak256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::platform::Entropy;
use crate::rules::wallet::Address;

/// A throw-away account.
pub(super) struct Wallet(SigningKey);

/// What a sign-in yields.
pub(super) struct SignedIn {
    /// The account, as EIP-55 writes it.
    pub(super) subject: String,
    /// For a minute.
    pub(super) access_token: String,
    /// For the next access token.
    pub(super) refresh_token: String,
}

impl Wallet {
    /// A new account.
    pub(super) fn create(entropy: &dyn Entropy) -> Result<Self, Box<dyn Error>> {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut_slice())?;
        Ok(Self(SigningKey::from_slice(secret.as_slice())?))
    }

    fn address(&self) -> Address {
        let point = self.0.verifying_key().to_sec1_point(false);
        let hash = Keccak256::digest(&point.as_bytes()[1..]);
        let mut address = [0; 20];
        address.copy_from_slice(&hash[12..]);
        Address(address)
    }

    /// Signs a message as `personal_sign` does (EIP-191).
    fn sign(&self, message: &str) -> String {
        let prefix = format!("\x19Ethereum Signed Message:\n{}", message.len());
        let hash = Keccak256::new()
            .chain_update(prefix)
            .chain_update(message)
            .finalize();
        let (signature, recovery) = self.0.sign_prehash_recoverable(&hash);
        let mut text = "0x".to_owned();
        for byte in signature.to_bytes() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(text, "{:02x}", 27 + recovery.to_byte());
        text
    }

    /// Signs in at `proxy` with this API key.
    pub(super) async fn sign_in(
        &self,
        proxy: SocketAddr,
        key: &str,
    ) -> Result<SignedIn, Box<dyn Error>> {
        let wanted = json!({"address": self.address().to_string(), "chainId": 42161});
        let offered = post(proxy, "/api/v1/auth/nonce", key, &wanted).await?;
        let message = member(&offered, "message")?;
        let signed = json!({
            "message": message,
            "signature": self.sign(&message),
            "mode": "body",
        });
        let answer = post(proxy, "/api/v1/auth/verify", key, &signed).await?;
        Ok(SignedIn {
            subject: member(&answer, "subject")?,
            access_token: member(&answer, "accessToken")?,
            refresh_token: member(&answer, "refreshToken")?,
        })
    }
}

/// Sends JSON and reads the JSON that comes back.
async fn post(
    proxy: SocketAddr,
    path: &str,
    key: &str,
    body: &Value,
) -> Result<Value, Box<dyn Error>> {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {proxy}\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(serde_json::from_str(body)?)
}

fn member(answer: &Value, name: &str) -> Result<String, Box<dyn Error>> {
    let text = answer[name].as_str();
    // A problem says itself what is wrong.
    let text = text.ok_or_else(|| format!("the demo's wallet could not sign in: {answer}"))?;
    Ok(text.to_owned())
}
