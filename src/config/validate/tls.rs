//! What TLS is spoken with: certificates, keys, and who vouches for the other side.

use std::path::Path;

use zeroize::Zeroizing;

use super::super::problems::Findings;
use super::super::raw::ListenTls;
use super::super::reload::Watch;
use super::super::secret;
use crate::listener::{BadTls, Tls};
use crate::platform::{Authorities, BadIdentity, Identity};

/// TLS on the listener for callers.
pub(super) fn listener(
    section: &ListenTls,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Tls> {
    const CLIENTS: &str = "listen.tls.client_ca";
    let certificate = ("listen.tls.certificate", section.certificate.as_deref());
    let key = ("listen.tls.private_key", section.private_key.as_deref());
    let identity = identity(certificate, key, watch, findings);
    let clients = match &section.client_ca {
        None => None,
        Some(path) => Some(authorities(CLIENTS, path, watch, findings)?),
    };
    match Tls::new(&identity?, clients.as_ref()) {
        Ok(tls) => Some(tls),
        Err(bad) => {
            let at = match &bad {
                BadTls::Clients(_) => CLIENTS,
                BadTls::Machine(_) => "listen.tls",
            };
            findings.problem(at, bad.to_string());
            None
        }
    }
}

/// The certificate and the key in two files, each with the key that names it. A file that is not named
/// was reported before.
pub(super) fn identity(
    (certificate_key, certificate): (&str, Option<&str>),
    (private_key_key, private_key): (&str, Option<&str>),
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Identity> {
    let chain = file(certificate_key, certificate, watch, findings);
    let key = private_key
        .and_then(|path| secret::from_file(private_key_key, Path::new(path), watch, findings));
    match Identity::from_pem(&chain?, &key?) {
        Ok(identity) => {
            let path = certificate.unwrap_or_default();
            findings.dated(certificate_key, path, identity.certificate());
            Some(identity)
        }
        Err(bad) => {
            let (at, path, suggestion) = match bad {
                BadIdentity::Certificate => (
                    certificate_key,
                    certificate,
                    "it begins with -----BEGIN CERTIFICATE-----, the own one before its chain",
                ),
                BadIdentity::Encrypted => (
                    private_key_key,
                    private_key,
                    "decrypt it: openssl pkey -in FILE -out FILE",
                ),
                BadIdentity::Key => (
                    private_key_key,
                    private_key,
                    "it begins with -----BEGIN PRIVATE KEY-----; openssl pkey -inform DER makes that of DER",
                ),
                BadIdentity::UnusableKey(_) => (
                    private_key_key,
                    private_key,
                    "RSA keys have 2048 bits at least, others are ECDSA on P-256, P-384 or P-521, or Ed25519",
                ),
                BadIdentity::Mismatch => (
                    private_key_key,
                    private_key,
                    "name the file that was made with the certificate, which comes before its chain",
                ),
            };
            let path = path.unwrap_or_default();
            findings.problem_with(at, format!("{path}: {bad}"), suggestion);
            None
        }
    }
}

/// Those whose certificates stand in the file at `path`, which `key` names.
pub(super) fn authorities(
    key: &str,
    path: &str,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Authorities> {
    let text = file(key, Some(path), watch, findings)?;
    let authorities = Authorities::from_pem(&text);
    if authorities.is_none() {
        let message = format!("{path} holds no certificates in PEM, or a broken one");
        findings.problem_with(key, message, "each begins with -----BEGIN CERTIFICATE-----");
    }
    authorities
}

/// What the file at `path` holds, which `key` names. One that is missing was reported by the shape check.
pub(super) fn file(
    key: &str,
    path: Option<&str>,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Zeroizing<Vec<u8>>> {
    let path = path?;
    match watch.file(Path::new(path)) {
        Ok(text) => Some(text),
        Err(error) => {
            secret::unreadable(key, Path::new(path), &error, findings);
            None
        }
    }
}
