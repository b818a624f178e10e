//! Every kind of problem, with its place and its way out.

use super::{ROUTE, UPSTREAM, problems, with_route};

#[test]
fn each_bad_route_says_what_and_how() {
    let key = "require = [\"api_key\"]";
    let cases = [
        (key.to_owned(), "4: routes[0].path: missing; write path ="),
        (
            format!("path = \"/a\"\nprefix = \"/a\"\n{key}"),
            "4: routes[0]: it has a path and a prefix; write two",
        ),
        (
            format!("path = \"a\"\n{key}"),
            "5: routes[0].path: \"a\": it does not begin with \"/\"; write \"/a\"",
        ),
        (
            format!("path = \"/a%2fb\"\n{key}"),
            "5: routes[0].path: \"/a%2fb\": it has a percent escape; write",
        ),
        (
            format!("path = \"/a?b=1\"\n{key}"),
            "5: routes[0].path: \"/a?b=1\": no request reaches such a path; leave",
        ),
        (
            format!("path = \"/a;b\"\n{key}"),
            "5: routes[0].path: \"/a;b\": no request reaches such a path; leave",
        ),
        (
            format!("path = \"/a/../b\"\n{key}"),
            "5: routes[0].path: \"/a/../b\": no request reaches such a path; leave",
        ),
        (
            format!("path = \"/a//b\"\n{key}"),
            "5: routes[0].path: \"/a//b\": no request reaches such a path; leave",
        ),
        (
            format!("path = \"/a/*\"\n{key}"),
            "5: routes[0].path: \"/a/*\": there are no wildcards; write prefix = \"/a\"",
        ),
        (
            format!("prefix = \"/a/{{id}}/b\"\n{key}"),
            "5: routes[0].prefix: \"/a/{id}/b\": there are no wildcards; write prefix = \"/a\"",
        ),
        (
            format!("path = \"/a\"\nhost = \"api:80\"\n{key}"),
            "6: routes[0].host: \"api:80\" is not a host; write it like",
        ),
        (
            format!("path = \"/a\"\nmethods = []\n{key}"),
            "6: routes[0].methods: it takes no method at all; leave",
        ),
        (
            format!("path = \"/a\"\nmethods = [\"TRACE\"]\n{key}"),
            "6: routes[0].methods: \"TRACE\" is not a method to route; it is refused",
        ),
        (
            format!("path = \"/a\"\nmethods = [\"G T\"]\n{key}"),
            "6: routes[0].methods: \"G T\" is not a method to route; did you mean \"GET\"?",
        ),
        (
            "path = \"/a\"\nrequire = []".into(),
            "6: routes[0].require: the list is empty; write require = \"nothing\"",
        ),
        (
            "path = \"/a\"\nrequire = {}".into(),
            "6: routes[0].require: no credential is listed; write require = \"nothing\"",
        ),
        (
            "path = \"/a\"\nrequire = \"api_key\"".into(),
            "6: routes[0].require: unknown requirement \"api_key\"; write [\"api_key\"]",
        ),
        (
            "path = \"/a\"\nrequire = \"nothin\"".into(),
            "6: routes[0].require: unknown requirement \"nothin\"; did you mean \"nothing\"?",
        ),
        (
            "path = \"/a\"\nrequire = true".into(),
            "6: routes[0].require: expected a string or a list or a table, found true or false; write it like [\"api_key\"]",
        ),
        (
            "path = \"/a\"\nrequire = [\"access_token\"]".into(),
            "6: routes[0].require: access tokens are not configured; add [wallet] with domains",
        ),
        (
            "path = \"/a\"\nrequire = { any = [\"access_token\"] }".into(),
            "6: routes[0].require: access tokens are not configured; add [wallet]",
        ),
        (
            "path = \"/a\"\nrequire = { some = [\"api_key\"] }".into(),
            "6: routes[0].require.some: unknown key \"some\"; known here: all, any, optional",
        ),
        (
            "path = \"/a\"\nrequire = { all = [\"api_key\"], any = [\"api_key\"] }".into(),
            "6: routes[0].require: api_key is listed in more than one way; list it once",
        ),
        (
            "path = \"/a\"\nrequired = [\"api_key\"]".into(),
            "6: routes[0].required: unknown key \"required\"; did you mean \"require\"?",
        ),
        (
            format!("path = \"/a\"\n{key}\nscopes = [\"a b\"]"),
            "7: routes[0].scopes: \"a b\" is not a scope; write",
        ),
        (
            "path = \"/a\"\nrequire = \"nothing\"\nscopes = [\"a\"]".into(),
            "7: routes[0].scopes: the route lists no credential that could carry them; name",
        ),
        (
            "path = \"/a\"\nrequire = \"nothing\"\nscopes = { api_key = [\"a\"] }".into(),
            "7: routes[0].scopes.api_key: the route does not list this credential; name",
        ),
        (
            format!("path = \"/a\"\n{key}\nscopes = {{ apikey = [\"a\"] }}"),
            "7: routes[0].scopes.apikey: unknown key \"apikey\"; did you mean \"api_key\"?",
        ),
        (
            format!("path = \"/a\"\n{key}\nscopes = {{ access_token = [\"a\"] }}"),
            "7: routes[0].scopes.access_token: the route does not list this credential; name it",
        ),
        (
            format!("path = \"/a\"\n{key}\nrate_limit = \"0/s\""),
            "7: routes[0].rate_limit: \"0/s\" is not a rate; write it like",
        ),
        (
            format!("path = \"/a\"\n{key}\nrate_limit = {{ rate = \"1/s\", burst = 0 }}"),
            "7: routes[0].rate_limit.burst: 0 is too small; the least is 1",
        ),
        (
            format!("path = \"/a\"\n{key}\nrate_limit = {{ burst = 2 }}"),
            "7: routes[0].rate_limit.rate: missing; write rate = \"100/s\"",
        ),
        (
            format!("path = \"/a\"\n{key}\nrequest_body = \"big\""),
            "7: routes[0].request_body: \"big\" is not a size; write it like \"10MiB\", \"1MB\" or \"unlimited\"",
        ),
        (
            format!("path = \"/a\"\n{key}\nresponse_timeout = 5"),
            "7: routes[0].response_timeout: expected a string, found a whole number; write it like \"500ms\"",
        ),
        (
            format!("path = \"/a\"\n{key}\nresponse_timeout = \"0s\""),
            "7: routes[0].response_timeout: no time at all; write it like \"10s\"",
        ),
        (
            "path = \"/a\"\nrequire = \"nothing\"\nforward = [\"api_key\"]".into(),
            "7: routes[0].forward: the route does not list api_key, so one would go unjudged; add",
        ),
        (
            format!("path = \"/a\"\n{key}\nencoded_slash = \"alow\""),
            "7: routes[0].encoded_slash: unknown value \"alow\"; did you mean \"allow\"?",
        ),
        (
            format!("path = \"/a\"\n{key}\nname = \"auth\""),
            "7: routes[0].name: \"auth\" is what metrics call requests without a route; give",
        ),
        (
            format!("path = \"/a\"\n{key}\nname = \"a\\u0007\""),
            "7: routes[0].name: the name has control characters; write",
        ),
        (
            format!("path = \"/a\"\n{key}\nupstream = \"apj\""),
            "7: routes[0].upstream: unknown upstream \"apj\"; did you mean \"api\"?",
        ),
        (
            format!("path = \"/a\"\n{key}\n[[routes]]\npath = \"/a/\"\n{key}"),
            "7: routes[1]: ties with routes[0]: same host, path and methods; give",
        ),
        (
            format!(
                "path = \"/a\"\nmethods = [\"GET\"]\n{key}\n[[routes]]\npath = \"/a\"\nmethods = [\"GET\", \"PUT\"]\n{key}"
            ),
            "8: routes[1]: ties with routes[0]",
        ),
        (
            format!(
                "path = \"/a\"\nname = \"x\"\n{key}\n[[routes]]\npath = \"/b\"\nname = \"x\"\n{key}"
            ),
            "10: routes[1].name: routes[0] is called \"x\" too; give",
        ),
    ];
    for (lines, expected) in cases {
        let found = problems(&with_route(&lines));
        let expected = format!("config.toml:{expected}");
        assert!(found.starts_with(&expected), "{lines}\n{found}\n{expected}");
        assert_eq!(found.lines().count(), 1, "{lines}\n{found}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of every kind of problem")]
fn each_bad_value_says_what_and_how() {
    // Each begins on line 8.
    let cases = [
        (
            "[[upstreams]]\nname = \"api\"\nurl = \"http://b\"",
            "9: upstreams[1].name: upstreams[0] is called \"api\" too; give",
        ),
        (
            "[[upstreams]]\nname = \"b\"",
            "8: upstreams[1].url: missing; write url = \"http://127.0.0.1:3000\"",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://u:hunter2@b\"",
            "10: upstreams[1].url: a user or a password has no place in it; write",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b/v1\"",
            "10: upstreams[1].url: \"http://b/v1\": it has a path, and",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b:99999\"",
            "10: upstreams[1].url: \"http://b:99999\": the port is not one; write",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b:+80\"",
            "10: upstreams[1].url: \"http://b:+80\": the port is not one; write",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://\"",
            "10: upstreams[1].url: \"http://\": the host is not one; write",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"b:80\"",
            "10: upstreams[1].url: \"b:80\": not a URL; write",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"unix:api.sock\"",
            "10: upstreams[1].url: \"unix:api.sock\": the path of the socket is not absolute; write",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://localhost:8080\"",
            "10: upstreams[1].url: 127.0.0.1:8080 is gatelet itself (listen.proxy), a loop; name",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b\"\nprotocol = \"http3\"",
            "11: upstreams[1].protocol: unknown protocol \"http3\"; did you mean \"http1\"?",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b\"\nca_file = \"x\"",
            "11: upstreams[1].ca_file: the upstream is not spoken to over TLS; write https://",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = []",
            "10: upstreams[1].url: the list has no address; write url = \"http://127.0.0.1:3000\"",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = [\"http://b\", \"http://B:80/\"]",
            "10: upstreams[1].url: \"http://B:80/\" stands there twice; name",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = [\"http://b\", \"HTTP://c\", \"unix:/b\"]",
            "10: upstreams[1].url: \"http\" and \"unix\" are mixed; give",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = [\"http://b\", \"http://c/v1\"]",
            "10: upstreams[1].url: \"http://c/v1\": it has a path, and",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = 3000",
            "10: upstreams[1].url: expected a string or a list, found a whole number; write it like \"http://127.0.0.1:3000\"",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b\"\nhealth_check = {}",
            "11: upstreams[1].health_check.path: missing; write path = \"/healthz\"",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b\"\nhealth_check = { path = \"healthz\" }",
            "11: upstreams[1].health_check.path: \"healthz\" is not a path; write",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b\"\nhealth_check = { path = \"/\", interval = \"1ms\" }",
            "11: upstreams[1].health_check.interval: 1ms is too often; the least is 100ms; write",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b\"\nhealth_check = { path = \"/\", unhealthy_threshold = 0 }",
            "11: upstreams[1].health_check.unhealthy_threshold: 0 is too small; the least is 1",
        ),
        (
            "[[upstreams]]\nname = \"b\"\nurl = \"http://b\"\nmax_connections = 0",
            "11: upstreams[1].max_connections: 0 is too small; the least is 1",
        ),
        (
            "[listen]\ntelemetry = \"0.0.0.0:8080\"",
            "9: listen.telemetry: listens where listen.proxy does; give",
        ),
        (
            "[wallet]\ndomains = [\"app.example.com\"]",
            "8: wallet: sign-in needs a store; add [store] with path",
        ),
        (
            "[access_token]\ntrusted = [{ issuer = \"https://a\", audience = [\"api\"] }]",
            "9: access_token.trusted[0]: it has no keys; name one of jwks_url, jwks_file and secret_file",
        ),
        (
            "[[access_token.trusted]]\naudience = [\"api\"]\njwks_url = \"https://a/k\"",
            "8: access_token.trusted[0].issuer: missing; write issuer = ",
        ),
        (
            "[[access_token.trusted]]\nissuer = \"https://a\"\naudience = []\njwks_url = \"https://a/k\"",
            "10: access_token.trusted[0].audience: nobody is named; write it like",
        ),
        (
            "[[access_token.trusted]]\nissuer = \"http://127.0.0.1:8080\"\naudience = [\"api\"]\njwks_url = \"https://a/k\"",
            "9: access_token.trusted[0].issuer: \"http://127.0.0.1:8080\" is gatelet's own; write the `iss`",
        ),
        (
            "[[access_token.trusted]]\nissuer = \"https://a\"\naudience = [\"api\"]\njwks_url = \"http://a/k\"",
            "11: access_token.trusted[0].jwks_url: \"http://a/k\": without TLS, whoever is on the way",
        ),
        (
            "[[access_token.trusted]]\nissuer = \"https://a\"\naudience = [\"api\"]\njwks_url = \"https://u:p@a/k\"",
            "11: access_token.trusted[0].jwks_url: a user or a password has no place in it; write",
        ),
        (
            "[[access_token.trusted]]\nissuer = \"https://a\"\naudience = [\"api\"]\njwks_url = \"https://a/k\"\nalgorithms = [\"HS256\"]",
            "12: access_token.trusted[0].algorithms: HS256 is for a secret alone; write it like",
        ),
        (
            "[[access_token.trusted]]\nissuer = \"https://a\"\naudience = [\"api\"]\njwks_url = \"https://a/k\"\nalgorithms = [\"none\"]",
            "12: access_token.trusted[0].algorithms: unknown algorithm \"none\"; write",
        ),
        (
            "[[access_token.trusted]]\nissuer = \"https://a\"\naudience = [\"api\"]\njwks_url = \"https://a/k\"\nsecret_file = \"s\"",
            "8: access_token.trusted[0]: its keys are named more than once; name one of",
        ),
        (
            "[[access_token.trusted]]\nissuer = \"https://a\"\naudience = [\"api\"]\njwks_file = \"missing.json\"",
            "11: access_token.trusted[0].jwks_file: missing.json cannot be read: ",
        ),
        (
            "[refresh_token.cookie]\nsecure = false",
            "9: refresh_token.cookie.secure: ",
        ),
        (
            "[refresh_token]\ngrace = \"7d\"",
            "9: refresh_token.grace: it is not shorter than refresh_token.ttl; write it",
        ),
        (
            "[session_token]\nidle = \"8d\"",
            "9: session_token.idle: 8d is longer than session_token.max; make it shorter",
        ),
        (
            "[auth]\ncsrf_origins = [\"app.example.com\"]",
            "9: auth.csrf_origins: \"app.example.com\" is not an origin",
        ),
        (
            "[auth.paths]\nsession = \"/sessions/{id}\"",
            "9: auth.paths.session: \"/api/v1/auth/sessions/{id}\" holds what a plain path",
        ),
        (
            "[api_keys]\nprefix = \"gs\"",
            "9: api_keys.prefix: session tokens begin with \"gs\"; write it",
        ),
        (
            "[store]\nkind = \"redis\"",
            "8: store.urls: there is no server; write urls = [\"redis://127.0.0.1:6379\"]",
        ),
        (
            "[store]\nkind = \"redis\"\nurls = [\"http://a\"]",
            "10: store.urls: \"http://a\": not a URL of a Redis server; write",
        ),
        (
            "[store]\nkind = \"redis\"\nurls = [\"redis://u:p@a\"]",
            "10: store.urls: a user or a password has no place in it; write username and password_file; write",
        ),
        (
            "[store]\nkind = \"redis\"\nurls = [\"redis://a/3\"]",
            "10: store.urls: \"redis://a/3\": it names more than a server; databases",
        ),
        (
            "[store]\nkind = \"redis\"\nurls = [\"redis://a\", \"rediss://b\"]",
            "10: store.urls: some are spoken to over TLS and some not; write all",
        ),
        (
            "[store]\nkind = \"redis\"\nurls = [\"redis://a\"]\ncluster = true\nsentinel_master = \"m\"",
            "12: store.sentinel_master: it is named for a Cluster; a Cluster needs no Sentinels",
        ),
        (
            "[store]\nkind = \"redis\"\nurls = [\"redis://a\"]\nkey_prefix = \"{a}\"",
            "11: store.key_prefix: not a prefix; write letters",
        ),
        (
            "[store]\nkind = \"redis\"\nurls = [\"redis://a\"]\nusername = \"u\"",
            "11: store.username: a user needs a password; name it in password_file",
        ),
        (
            "[store]\nurls = [\"redis://a\"]",
            "9: store.urls: an embedded store has no server; write kind",
        ),
        (
            "[limits]\nrequest_head = \"1KiB\"",
            "9: limits.request_head: 1KiB is not from 8KiB to 1MiB; write",
        ),
        (
            "[limits]\nhead_timeout = \"9999d\"",
            "9: limits.head_timeout: 9999d is too long; the most is 366d",
        ),
        (
            "[limits]\nhead_timeout = 1979-05-27",
            "9: limits.head_timeout: expected a string, found a date; write",
        ),
        (
            "[limits]\nconnections = 1.5",
            "9: limits.connections: expected a whole number, found a fraction; write it like 10000",
        ),
        (
            "[limits]\nconnections = 99999999999999999999",
            "9: limits.connections: too large; the most is 4294967295",
        ),
        (
            "limits = []",
            "8: routes[0].limits: unknown key \"limits\"; known here: name, path",
        ),
        (
            "[forwarded]\ntrusted_proxies = [\"10.0.0.0/33\"]",
            "9: forwarded.trusted_proxies: \"10.0.0.0/33\" is not a network; write",
        ),
        (
            "[forwarded]\ntrusted_proxies = \"10.0.0.0/8\"",
            "9: forwarded.trusted_proxies: expected a list, found a string; write it like [\"10.0.0.0/8\"]",
        ),
        (
            "[identity]\nprefix = \"x_auth\"",
            "9: identity.prefix: \"x_auth\" is not letters, digits and \"-\", with a",
        ),
        (
            "[identity]\nprefix = \"content-\"",
            "9: identity.prefix: it would take content-encoding away from every request",
        ),
        (
            "[auth]\nrealm = 'a\"b'",
            "9: auth.realm: \"a\\\"b\" cannot stand in a header; write",
        ),
        (
            "[auth]\nprefix = \"auth\"",
            "9: auth.prefix: \"auth\" does not begin with \"/\"; write it like",
        ),
        (
            "[cors]",
            "8: cors.origins: no origin may read an answer; write origins =",
        ),
        (
            "[cors]\norigins = [\"*\"]",
            "9: cors.origins: \"*\" is not an origin; answers carry credentials",
        ),
        (
            "[cors]\norigins = [\"https://A.example/\"]",
            "9: cors.origins: \"https://A.example/\" is not an origin; browsers send \"https://a.example\"",
        ),
        (
            "[cors]\norigins = [\"null\"]",
            "9: cors.origins: \"null\" is not an origin; write it like",
        ),
        (
            "[cors]\norigins = [\"https://a.example:443\"]",
            "9: cors.origins: \"https://a.example:443\" is not an origin; browsers send \"https://a.example\"",
        ),
        (
            "[api_keys]\nheaders = [\"x api key\"]",
            "9: api_keys.headers: \"x api key\" is not a header name; write",
        ),
        (
            "[api_keys]\nheaders = [\"X_Auth_Key\"]",
            "9: api_keys.headers: X_Auth_Key lies below identity.prefix, which callers cannot send",
        ),
        (
            "[api_keys]\nheaders = [\"Cookie\"]",
            "9: api_keys.headers: cookie has a meaning of its own; write",
        ),
        (
            "[api_keys]\nheaders = [\"authorization\"]",
            "9: api_keys.headers: \"authorization\" is read as bearer only; bearer = true",
        ),
        (
            "[api_keys]\nheaders = []\nbearer = false",
            "9: api_keys.headers: routes[0] requires a key, and nothing may carry one; write",
        ),
        (
            "[api_keys]\nprefix = \"g_k\"",
            "9: api_keys.prefix: \"g_k\" is not 1 to 16 letters and digits; write",
        ),
        (
            "[api_keys]\nprefix = \"gs\"",
            "9: api_keys.prefix: session tokens begin with \"gs\"; write",
        ),
        (
            "[api_keys]\npepper_file = \"/nonexistent/pepper\"",
            "9: api_keys.pepper_file: /nonexistent/pepper cannot be read: No such file",
        ),
        (
            "[api_keys]\ndirectory = \"/nonexistent/keys\"",
            "9: api_keys.directory: /nonexistent/keys cannot be read: No such file",
        ),
        (
            "[[api_keys.static]]\nname = \"ci\"",
            "8: api_keys.static[0].sha256: missing; write sha256 =",
        ),
        (
            "[[api_keys.static]]\nname = \"ci\"\nsha256 = \"abc\"",
            "10: api_keys.static[0].sha256: not a SHA-256 of 64 hexadecimal digits; write it like what",
        ),
        (
            "[log]\naccess = \"yes\"",
            "9: log.access: expected true or false, found a string; write it like true",
        ),
        (
            "[storage]",
            "8: storage: unknown key \"storage\"; known here: listen",
        ),
    ];
    for (lines, expected) in cases {
        let text = format!("{UPSTREAM}{ROUTE}upstream = \"api\"\n{lines}\n");
        let found = problems(&text);
        let first = format!("config.toml:{expected}");
        assert!(found.starts_with(&first), "{lines}\n{found}\n{first}");
        assert_eq!(found.lines().count(), 1, "{lines}\n{found}");
    }
}
