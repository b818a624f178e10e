//! `gatelet demo`: the sidecar before a sample API, with a store, a key and a wallet to throw away.
//!
//! Runs the real program from a configuration file like any other, so that the commands it prints
//! are those that a reader will use. Needs no network and leaves nothing behind. What the sample
//! API answers, its page and what is printed live below; nothing here is on the path of a real
//! request.

mod folder;
mod page;
mod sample_api;
mod wallet;
mod welcome;

use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::Level;

use crate::app::App;
use crate::authn::keyring::{Created, Keyring, NewKey};
use crate::config::{self, Config, Overrides};
use crate::platform::Platform;
use crate::platform::signal::Signals;
use crate::rules::api_key::Label;
use crate::rules::principal::Scopes;
use crate::store::Store;
use crate::telemetry::log;

use super::{DONE, failed};
use folder::ThrowAway;
use page::Page;
use sample_api::SampleApi;
use wallet::Wallet;
use welcome::Welcome;

/// Why the demo did not run.
type Failure = Box<dyn Error>;

/// Where the proxy listens if nothing else does.
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Where the metrics are if nothing else is there.
const TELEMETRY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Runs the demo until the first signal, and returns the exit status.
pub(super) fn run() -> u8 {
    // What goes right is told by the welcome and the access log.
    let diagnostics = log::Config {
        format: log::Format::Auto,
        level: Level::WARN,
        access: true,
    };
    let _diagnostics = match log::init(&diagnostics) {
        Ok(diagnostics) => diagnostics,
        Err(error) => return failed(&error),
    };
    match attempt(&Platform::system()) {
        Ok(()) => DONE,
        Err(error) => failed(&*error),
    }
}

/// The folder goes last, and with it the store, the configuration and the key.
fn attempt(platform: &Platform) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let folder = ThrowAway::create(&*platform.entropy)?;
    runtime.block_on(show(&folder, platform))
}

async fn show(folder: &ThrowAway, platform: &Platform) -> Result<(), Failure> {
    // Before anything is there that a signal would leave behind.
    let mut signals = Signals::listen()?;
    let api = SampleApi::bind().await?;
    let address = api.address();

    let (proxy, telemetry) = (free(PROXY)?, free(TELEMETRY)?);
    let file = folder.path().join("config.toml");
    let store = folder.path().join("store");
    fs::write(&file, configuration(proxy, telemetry, address, &store))?;
    // The environment is left out: what it says is meant for the reader's own sidecar.
    let config = config::load(&file, &Overrides::default())?.config;
    let key = mint(&config, platform).await?;
    tokio::spawn(api.serve(Page::new(&key.secret)));

    let wallet = Wallet::create(&*platform.entropy)?;

    let app = App::start(&config, platform).await?;
    let signed_in = wallet.sign_in(app.proxy(), &key.secret).await?;
    let program = program();
    let welcome = Welcome {
        proxy: app.proxy(),
        telemetry: app.telemetry(),
        taken: [(PROXY, proxy), (TELEMETRY, telemetry)].map(|(wanted, got)| wanted != got),
        api: address,
        program: &program,
        folder: folder.path(),
        config: &file,
        key_id: &key.record.id,
        key: &key.secret,
        subject: &signed_in.subject,
        access_token: &signed_in.access_token,
        refresh_token: &signed_in.refresh_token,
    };
    let printed = print(&welcome);
    if printed.is_ok() {
        // SIGHUP as well: it is what a terminal sends that was closed.
        signals.next().await;
    }
    app.stop().await;
    Ok(printed?)
}

/// `wanted` if it can be bound now; else the same address with a port that can.
///
/// The port has to be known before the start: wallets sign for it. Who takes it in between makes the
/// start fail, which says so.
fn free(wanted: SocketAddr) -> io::Result<SocketAddr> {
    match TcpListener::bind(wanted) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind((wanted.ip(), 0))
        }
        bound => bound,
    }?
    .local_addr()
}

/// Makes the one key that the demo has.
async fn mint(config: &Config, platform: &Platform) -> Result<Created, Failure> {
    let store = config.store.as_ref().ok_or("the demo has no store")?;
    let store = Store::open(store, platform, Arc::new(|_, _, _| {}))?;
    let keyring = Keyring::new(
        Arc::new(store),
        config.authn.prefix.clone(),
        config.authn.pepper.clone(),
        platform.clone(),
    );
    let key = NewKey {
        name: Label::parse("demo")?,
        owner: Some(Label::parse("ada")?),
        scopes: Scopes::new(["portfolio:read"]),
        expires_at: None,
        rate_limit: None,
    };
    Ok(keyring.create(key).await?)
}

/// How this program is run from the current folder: by a relative path where that is shorter.
fn program() -> PathBuf {
    let Ok(program) = std::env::current_exe() else {
        return PathBuf::from("gatelet");
    };
    match std::env::current_dir() {
        Ok(here) => match program.strip_prefix(&here) {
            // Without a slash a shell would look for it elsewhere.
            Ok(below) => Path::new(".").join(below),
            Err(_) => program,
        },
        Err(_) => program,
    }
}

fn print(welcome: &Welcome<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{welcome}")?;
    out.flush()
}

/// The configuration for these addresses and this store.
fn configuration(
    proxy: SocketAddr,
    telemetry: SocketAddr,
    api: SocketAddr,
    store: &Path,
) -> String {
    // What JSON escapes, and how, a TOML basic string does as well.
    let store = serde_json::Value::from(store.to_string_lossy());
    let port = proxy.port();
    format!(
        r#"# Written by `gatelet demo`, and gone with it.

[listen]
proxy     = "{proxy}"
telemetry = "{telemetry}"

[[upstreams]]
name = "portfolio"
url  = "http://{api}"

# What the browser loads before it knows who is there.
[[routes]]
name    = "page"
path    = "/"
methods = ["GET"]
require = "nothing"

[[routes]]
name    = "page-files"
prefix  = "/page"
methods = ["GET"]
require = "nothing"

[[routes]]
name    = "health"
path    = "/api/v1/health"
require = "nothing"

[[routes]]
name    = "portfolio"
prefix  = "/api/v1/portfolio"
require = ["api_key", "access_token"]
scopes  = {{ access_token = ["portfolio:read"] }}

[[routes]]
name    = "api"
prefix  = "/api/v1"
require = ["api_key"]

# The page is opened under either name.
[wallet]
domains   = ["{proxy}", "localhost:{port}"]
chains    = [1, 42161]
statement = "Sign in to the gatelet demo."

# A short life, so that its end can be watched; the default is 15m.
[access_token]
issuer = "http://{proxy}"
ttl    = "60s"
scopes = ["portfolio:read"]

[store]
kind = "embedded"
path = {store}
"#
    )
}
