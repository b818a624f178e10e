//! What the demo prints: commands to paste into a shell.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

/// Everything the text names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Welcome<'a> {
    /// Where guarded traffic arrives.
    pub(super) proxy: SocketAddr,
    /// Where the metrics are.
    pub(super) telemetry: SocketAddr,
    /// Whether another program holds 8080, and 9464, so that these are other ports.
    pub(super) taken: [bool; 2],
    /// Where the sample API listens.
    pub(super) api: SocketAddr,
    /// How this program is run from here.
    pub(super) program: &'a Path,
    /// The throw-away folder.
    pub(super) folder: &'a Path,
    /// The configuration, in that folder.
    pub(super) config: &'a Path,
    /// The key's id.
    pub(super) key_id: &'a str,
    /// The key itself; shown this once, and worthless when the demo ends.
    pub(super) key: &'a str,
    /// The account that signed in.
    pub(super) subject: &'a str,
    /// Its access token.
    pub(super) access_token: &'a str,
    /// Its refresh token.
    pub(super) refresh_token: &'a str,
}

impl fmt::Display for Welcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            proxy,
            telemetry,
            api,
            key_id,
            key,
            subject,
            access_token,
            refresh_token,
            ..
        } = self;
        let program = quoted(self.program);
        let config = quoted(self.config);
        let folder = self.folder.display();
        let taken = match self.taken {
            [false, false] => "",
            [true, false] => "Port 8080 is taken, so this is another.\n",
            [false, true] => "Port 9464 is taken, so the metrics are on another.\n",
            [true, true] => {
                "Port 8080 is taken, so this is another; so it is for the metrics and 9464.\n"
            }
        };
        let portfolio = format!("'http://{proxy}/api/v1/portfolio?network=arbitrum'");
        write!(
            f,
            "
gatelet listens on http://{proxy}, before a sample portfolio API on http://{api}.
{taken}Open http://{proxy}/ in a browser: sign in there, and watch what becomes of the tokens.
Or paste these into another terminal.

A portfolio needs an API key and an access token. The demo's own wallet has just signed in,
as {subject}: 200 for a minute, which is how long access tokens live here, and then 401.

  curl -i -H 'x-api-key: {key}' -H 'authorization: Bearer {access_token}' {portfolio}

Without one of them, 401:

  curl -i {portfolio}
  curl -i -H 'x-api-key: {key}' {portfolio}

This fetches the next access token, and the refresh token after this one:

  curl -X POST -H 'content-type: application/json' -d '{{\"refreshToken\":\"{refresh_token}\"}}' http://{proxy}/api/v1/auth/refresh

Most pages need the key alone, this one shows what the API is told; the health page needs none:

  curl -i -H 'authorization: Bearer {key}' http://{proxy}/api/v1/whoami
  curl -i http://{proxy}/api/v1/health

What Prometheus would scrape:

  curl -s http://{telemetry}/metrics

Revoke the key and try again: 401 within a second.

  {program} keys revoke {key_id} --config {config}
  curl -i -H 'x-api-key: {key}' http://{proxy}/api/v1/whoami

Make another:

  {program} keys create --name mine --config {config}

Ctrl-C stops the demo and removes {folder}.

"
        )
    }
}

/// A path as one word of a POSIX shell; bare where nothing in it is special.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_alone_on_their_lines() {
        let text = Welcome {
            proxy: ([127, 0, 0, 1], 8080).into(),
            telemetry: ([127, 0, 0, 1], 9464).into(),
            taken: [false; 2],
            api: ([127, 0, 0, 1], 40_000).into(),
            program: Path::new("target/release/gatelet"),
            folder: Path::new("/tmp/gatelet-demo-1"),
            config: Path::new("/tmp/gatelet-demo-1/config.toml"),
            key_id: "key_1",
            key: "gk_1",
            subject: "0xAda",
            access_token: "a.b.c",
            refresh_token: "gr_1",
        }
        .to_string();
        let commands: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .collect();

        assert_eq!(
            commands,
            [
                "curl -i -H 'x-api-key: gk_1' -H 'authorization: Bearer a.b.c' 'http://127.0.0.1:8080/api/v1/portfolio?network=arbitrum'",
                "curl -i 'http://127.0.0.1:8080/api/v1/portfolio?network=arbitrum'",
                "curl -i -H 'x-api-key: gk_1' 'http://127.0.0.1:8080/api/v1/portfolio?network=arbitrum'",
                "curl -X POST -H 'content-type: application/json' -d '{\"refreshToken\":\"gr_1\"}' http://127.0.0.1:8080/api/v1/auth/refresh",
                "curl -i -H 'authorization: Bearer gk_1' http://127.0.0.1:8080/api/v1/whoami",
                "curl -i http://127.0.0.1:8080/api/v1/health",
                "curl -s http://127.0.0.1:9464/metrics",
                "target/release/gatelet keys revoke key_1 --config /tmp/gatelet-demo-1/config.toml",
                "curl -i -H 'x-api-key: gk_1' http://127.0.0.1:8080/api/v1/whoami",
                "target/release/gatelet keys create --name mine --config /tmp/gatelet-demo-1/config.toml",
            ]
        );
    }

    #[test]
    fn quotes_what_a_shell_would_split() {
        assert_eq!(quoted(Path::new("/tmp/a b")), "'/tmp/a b'");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(Path::new("/usr/bin/gatelet")), "/usr/bin/gatelet");
    }
}
