//! Who one is on a TLS connection, and who vouches for the other side.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// A certificate with the chain behind it, and its private key.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// Why texts make no identity.
#[derive(Debug)]
pub enum BadIdentity {
    /// There is no certificate, or a broken one.
    Certificate,
    /// There is no key.
    Key,
    /// The key is encrypted, and nobody asks for a passphrase here.
    Encrypted,
    /// The key cannot be used, and this is why.
    UnusableKey(rustls::Error),
    /// The key is another one's than the certificate's.
    Mismatch,
}

impl fmt::Display for BadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate => f.write_str("it holds no certificate in PEM, or a broken one"),
            Self::Key => f.write_str("it holds no private key in PEM"),
            Self::Encrypted => f.write_str("its private key is encrypted"),
            Self::UnusableKey(error) => write!(f, "its key cannot be used: {error}"),
            Self::Mismatch => f.write_str("its key is not the one of the certificate"),
        }
    }
}

impl std::error::Error for BadIdentity {}

impl Identity {
    /// The certificates of one text in PEM, the own one first, and the key of another.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, BadIdentity> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or(BadIdentity::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            // Of PKCS #8 (RFC 5958 §3), and as OpenSSL wrote it before (RFC 1421 §4.6.1.1).
            let text = String::from_utf8_lossy(key);
            let signs = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
            if signs.iter().any(|sign| text.contains(sign)) {
                BadIdentity::Encrypted
            } else {
                BadIdentity::Key
            }
        })?;
        let provider = aws_lc_rs::default_provider();
        let certified =
            CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => BadIdentity::Mismatch,
                rustls::Error::InvalidCertificate(_) => BadIdentity::Certificate,
                error => BadIdentity::UnusableKey(error),
            })?;
        Ok(Self(Arc::new(certified)))
    }

    /// The own certificate, without its chain.
    pub fn certificate(&self) -> &[u8] {
        self.0.cert.first().map_or(&[], |certificate| certificate)
    }

    /// The same as the TLS library asks for it.
    pub fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.0)))
    }
}

impl PartialEq for Identity {
    /// A certificate has one key.
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Whose word on a certificate is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authorities {
    /// Those that the machine trusts.
    OfMachine,
    /// These alone.
    Given(Vec<CertificateDer<'static>>),
}

impl Authorities {
    /// The certificates of a text in PEM; `None` if there are none, or one is broken.
    pub fn from_pem(text: &[u8]) -> Option<Self> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let certificates = certificates.ok().filter(|found| !found.is_empty())?;
        let mut roots = RootCertStore::empty();
        let (_, broken) = roots.add_parsable_certificates(certificates.iter().cloned());
        (broken == 0).then_some(Self::Given(certificates))
    }

    /// The certificates that a chain may end in; empty where the machine trusts nobody.
    ///
    /// Blocks on the file system, where it is the machine that says.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let (_, _) = match self {
            Self::OfMachine => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)
            }
            Self::Given(certificates) => {
                roots.add_parsable_certificates(certificates.iter().cloned())
            }
        };
        roots
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn in_pem(kind: &str, der: &[u8]) -> String {
        let body = STANDARD.encode(der);
        format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
    }

    #[test]
    fn an_identity_is_a_certificate_and_its_own_key() {
        let made = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            let certificate = in_pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
            (certificate, in_pem("PRIVATE KEY", &key.serialize_der()))
        };
        let ((certificate, key), (other, other_key)) = (made(), made());
        let identity = |certificate: &str, key: &str| {
            Identity::from_pem(certificate.as_bytes(), key.as_bytes())
        };
        let found = identity(&certificate, &key).unwrap();
        assert_eq!(found, identity(&certificate, &key).unwrap());
        assert_ne!(found, identity(&other, &other_key).unwrap());
        for (certificate, key, why) in [
            (&certificate, &other_key, "not the one of the certificate"),
            (&certificate, &certificate, "no private key"),
            (
                &certificate,
                &in_pem("ENCRYPTED PRIVATE KEY", b"!"),
                "encrypted",
            ),
            (&key, &key, "no certificate"),
            (&in_pem("CERTIFICATE", b"!"), &key, "a broken one"),
            (&certificate, &in_pem("PRIVATE KEY", b"!"), "cannot be used"),
        ] {
            let error = identity(certificate, key).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn authorities_are_certificates_in_pem() {
        assert_eq!(Authorities::from_pem(b""), None);
        assert_eq!(
            Authorities::from_pem(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
            None
        );
        let pem = |der: &[u8]| in_pem("CERTIFICATE", der);
        let broken = pem(&[0x30, 0]);
        assert_eq!(Authorities::from_pem(broken.as_bytes()), None);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let made = params.self_signed(&key).unwrap();
        let given = Authorities::from_pem(pem(made.der()).as_bytes());
        assert_eq!(given, Some(Authorities::Given(vec![made.der().clone()])));
        let both = pem(made.der()) + &broken;
        assert_eq!(Authorities::from_pem(both.as_bytes()), None);
    }
}
