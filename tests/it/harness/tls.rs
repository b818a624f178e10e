//! Certificates to throw away, callers over TLS, and an upstream's TLS.

use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig,
    StreamOwned, SupportedProtocolVersion,
};
use tokio::io::copy_bidirectional;
use tokio_rustls::TlsAcceptor;

use super::wait::BOUND;

/// Somebody who vouches for servers and for callers.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Identity {
    /// The certificate, in PEM.
    pub(crate) fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", self.certificate.der())
    }

    /// The key, in PEM.
    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key.serialize_der())
    }

    fn chain(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        (vec![self.certificate.der().clone()], key)
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// A certificate for the server of this name, and its key.
    pub(crate) fn vouch_for(&self, name: &str) -> (Certificate, KeyPair) {
        let identity = self.certify(&[name], &[]);
        (identity.certificate, identity.key)
    }

    /// A certificate with these names and URIs.
    pub(crate) fn certify(&self, names: &[&str], uris: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uris = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate, key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

/// How a caller speaks TLS. Its sessions are kept for its next connection.
#[derive(Clone)]
pub(crate) struct TlsCaller(Arc<ClientConfig>);

/// What was agreed upon.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) version: ProtocolVersion,
    pub(crate) kind: HandshakeKind,
    pub(crate) alpn: Option<String>,
    /// The name of the key exchange, where there was one.
    pub(crate) group: Option<String>,
    /// The certificate that was shown.
    pub(crate) certificate: Vec<u8>,
}

impl TlsCaller {
    /// A caller that trusts this authority, shows `identity` and offers these protocols.
    pub(crate) fn new(
        authority: &Authority,
        identity: Option<&Identity>,
        protocols: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(authority.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.chain();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| (*name).into()).collect();
        Self(Arc::new(config))
    }

    /// The same in the newest version, with HTTP/1.1 alone.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        Self::new(authority, None, &["http/1.1"], rustls::ALL_VERSIONS)
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// Connects and agrees on TLS with `api.test`.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut socket = TcpStream::connect_timeout(&address, BOUND)?;
        socket.set_read_timeout(Some(BOUND))?;
        socket.set_write_timeout(Some(BOUND))?;
        let name = ServerName::try_from("api.test").unwrap();
        let mut session = ClientConnection::new(self.config(), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(session, socket))
    }
}

/// What this connection agreed upon.
pub(crate) fn agreed(session: &ClientConnection) -> Agreed {
    let alpn = session.alpn_protocol();
    let group = session.negotiated_key_exchange_group();
    let certificates = session.peer_certificates().unwrap_or_default();
    Agreed {
        version: session.protocol_version().unwrap(),
        kind: session.handshake_kind().unwrap(),
        alpn: alpn.map(|name| String::from_utf8(name.to_vec()).unwrap()),
        group: group.map(|group| format!("{:?}", group.name())),
        certificate: certificates.first().map_or(Vec::new(), |der| der.to_vec()),
    }
}

/// TLS before a plaintext server: what it is sent goes on to there, and back.
pub(crate) struct Terminator {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<AtomicUsize>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

/// What a connection to a terminator agreed upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) protocol: Option<String>,
    pub(crate) server_name: Option<String>,
}

impl Terminator {
    /// Shows `identity` and offers these protocols; `clients` vouch for whoever may connect.
    pub(crate) fn start(
        to: SocketAddr,
        identity: &Identity,
        clients: Option<&Authority>,
        protocols: &[&str],
    ) -> Self {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (chain, key) = identity.chain();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| (*name).into()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::clone(&seen);
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        let accepting = async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
                let counted = Arc::clone(&counted);
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    let (_, session) = stream.get_ref();
                    let alpn = session.alpn_protocol();
                    told.lock().unwrap().push(Seen {
                        protocol: alpn.map(|name| String::from_utf8(name.to_vec()).unwrap()),
                        server_name: session.server_name().map(str::to_owned),
                    });
                    let mut onward = tokio::net::TcpStream::connect(to).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut onward).await;
                    drop(stream);
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            seen,
            open,
            _stop: stop,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What each connection so far agreed upon.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

pub(crate) fn pem(kind: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {kind}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        writeln!(text, "{}", std::str::from_utf8(line).unwrap()).unwrap();
    }
    text + &format!("-----END {kind}-----\n")
}
