//! gatelet's work on Pingora: who holds a known API key is let in, and the upstream is told who that is.
//!
//! The key's SHA-256 is looked up in a hash map; the forwarded request has lost the key and says whose it was. One
//! thread; HTTP/1.1 in plaintext, or over TLS with HTTP/2 where a certificate is given.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use sha2::{Digest, Sha256};

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [listen, upstream, keys] => run(listen, upstream, keys, None),
        [listen, upstream, keys, certificate, key] => run(
            listen,
            upstream,
            keys,
            Some((certificate.as_str(), key.as_str())),
        ),
        _ => {
            eprintln!("usage: pingora-peer LISTEN UPSTREAM KEYS [CERTIFICATE PRIVATE_KEY]");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = result {
        eprintln!("pingora-peer: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(listen: &str, upstream: &str, keys: &str, tls: Option<(&str, &str)>) -> Result<(), Error> {
    let guard = Guard {
        names: names(keys)?,
        upstream: upstream.parse()?,
    };
    let conf = ServerConf {
        threads: 1,
        // With one thread there is nobody to steal from.
        work_stealing: false,
        // As many as there are requests at once.
        upstream_keepalive_pool_size: 512,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, guard);
    if let Some((certificate, key)) = tls {
        let mut settings = TlsSettings::intermediate(certificate, key)?;
        settings.enable_h2();
        service.add_tls_with_settings(listen, None, settings);
    } else {
        service.add_tcp(listen);
    }
    server.add_service(service);
    server.run_forever();
}

/// The names of the holders by their keys' digests, from lines of `key name`.
fn names(file: &str) -> Result<HashMap<[u8; 32], String>, Error> {
    let mut names = HashMap::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let (key, name) = line.split_once(' ').ok_or("a line without a name")?;
        names.insert(Sha256::digest(key).into(), name.to_owned());
    }
    Ok(names)
}

struct Guard {
    names: HashMap<[u8; 32], String>,
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Guard {
    /// Whose key it was.
    type CTX = Option<String>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    async fn request_filter(&self, session: &mut Session, holder: &mut Self::CTX) -> Result<bool> {
        let key = session.req_header().headers.get("x-api-key");
        let digest = key.map(|key| <[u8; 32]>::from(Sha256::digest(key.as_bytes())));
        *holder = digest.and_then(|digest| self.names.get(&digest).cloned());
        if holder.is_some() {
            return Ok(false);
        }
        // Pingora's own error answers close the connection, which others keep.
        let mut refusal = ResponseHeader::build(401, Some(1))?;
        refusal.insert_header("content-length", "0")?;
        session
            .write_response_header(Box::new(refusal), true)
            .await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        holder: &mut Self::CTX,
    ) -> Result<()> {
        request.remove_header("x-api-key");
        if let Some(name) = holder.take() {
            request.insert_header("x-auth-subject", name)?;
        }
        Ok(())
    }
}
