//! The refresh cookie: how it is set and removed, what browsers would not take, how it is read.
//!
//! Pure. RFC 6265bis (draft-ietf-httpbis-rfc6265bis) is followed on both sides. What a cookie's
//! value is worth is not judged here, and neither is who may send one: see `rules::origin`. That
//! no upstream sees the cookie is `rules::headers`' matter.

use std::time::Duration;

use http::header;

use crate::rules::fields::Fields;

/// Which requests from other sites a browser adds a cookie to (RFC 6265bis §5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Navigations that change nothing.
    Lax,
    /// All.
    None,
}

impl SameSite {
    const fn name(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// A cookie, but for its value. Scripts never see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name; a browser holds some prefixes of names to rules of their own.
    pub name: Box<str>,
    /// The path that it is sent to, and all below it.
    pub path: Box<str>,
    /// The host that it is sent to, and all below it; without one, the host that set it alone.
    pub domain: Option<Box<str>>,
    /// Whether it crosses TLS alone.
    pub secure: bool,
    /// Which requests from other sites carry it.
    pub same_site: SameSite,
    /// Whether each embedding site has a jar of its own for it
    /// (draft-cutler-httpbis-partitioned-cookies).
    pub partitioned: bool,
}

impl Cookie {
    /// Writes the `Set-Cookie` that carries `value` for `max_age` more, in whole seconds.
    ///
    /// At least a second: 0 would remove the cookie (RFC 6265bis §5.6.2). The value has to be made
    /// of characters that stand in one (RFC 6265bis §4.1.1); letters and digits do.
    pub fn set(&self, value: &str, max_age: Duration) -> String {
        let seconds = max_age.as_secs().max(1);
        self.written(value, &format!("Max-Age={seconds}"))
    }

    /// Writes the `Set-Cookie` that removes the cookie, in the words of all who read dates or ages.
    ///
    /// A browser removes what has the same name, domain and path (RFC 6265bis §5.7), and takes the
    /// word of none that breaks the rules of the name's prefix: every attribute is repeated.
    pub fn clear(&self) -> String {
        self.written("", "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
    }

    fn written(&self, value: &str, end: &str) -> String {
        let mut line = format!("{}={value}; Path={}", self.name, self.path);
        if let Some(domain) = &self.domain {
            line.push_str("; Domain=");
            line.push_str(domain);
        }
        line.push_str("; ");
        line.push_str(end);
        if self.secure {
            line.push_str("; Secure");
        }
        line.push_str("; HttpOnly; SameSite=");
        line.push_str(self.same_site.name());
        if self.partitioned {
            line.push_str("; Partitioned");
        }
        line
    }

    /// Says what browsers would ignore the cookie for, or read otherwise than it is meant.
    ///
    /// Each is the key below `refresh_token.cookie`, what is wrong, and a way out; at most one a key.
    pub fn problems(&self) -> Vec<(&'static str, String, &'static str)> {
        [
            self.name_problem(),
            self.path_problem(),
            self.domain_problem(),
            self.secure_problem(),
            self.same_site_problem(),
            self.partitioned_problem(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn name_problem(&self) -> Option<(&'static str, String, &'static str)> {
        (!is_token(&self.name)).then(|| {
            (
                "name",
                "it is not a token: letters, digits and !#$%&'*+-.^_`|~".to_owned(),
                "write it like \"__Host-refresh\"",
            )
        })
    }

    fn path_problem(&self) -> Option<(&'static str, String, &'static str)> {
        if !is_path(&self.path) {
            let message = "it does not begin with \"/\", or holds a \";\", a space at its end or \
                           what is not printable ASCII";
            return Some(("path", message.to_owned(), "write it like \"/api/v1/auth\""));
        }
        let prefix = self.prefix().filter(|prefix| prefix.binds_to_host())?;
        (&*self.path != "/").then(|| {
            (
                "path",
                format!("a {} cookie has the path \"/\"", prefix.name()),
                "leave it out, or choose a name that does not begin so",
            )
        })
    }

    fn domain_problem(&self) -> Option<(&'static str, String, &'static str)> {
        let domain = self.domain.as_deref()?;
        if let Some(prefix) = self.prefix().filter(|prefix| prefix.binds_to_host()) {
            return Some((
                "domain",
                format!("a {} cookie has no domain", prefix.name()),
                "leave it out, or choose a name that does not begin so",
            ));
        }
        (!is_host_name(domain)).then(|| {
            (
                "domain",
                "it is not a plain host name".to_owned(),
                "write it like \"example.com\", or leave it out for the host that sets the cookie",
            )
        })
    }

    fn secure_problem(&self) -> Option<(&'static str, String, &'static str)> {
        let prefix = self.prefix().filter(|_| !self.secure)?;
        Some((
            "secure",
            format!(
                "browsers ignore a {} cookie that is not secure",
                prefix.name()
            ),
            "write secure = true, or choose a name that does not begin so",
        ))
    }

    fn same_site_problem(&self) -> Option<(&'static str, String, &'static str)> {
        (self.same_site == SameSite::None && !self.secure).then(|| {
            (
                "same_site",
                "browsers ignore a cookie for all sites that is not secure".to_owned(),
                "write secure = true, or same_site = \"lax\"",
            )
        })
    }

    fn partitioned_problem(&self) -> Option<(&'static str, String, &'static str)> {
        (self.partitioned && !self.secure).then(|| {
            (
                "partitioned",
                "browsers ignore a partitioned cookie that is not secure".to_owned(),
                "write secure = true, or leave partitioned out",
            )
        })
    }

    fn prefix(&self) -> Option<Prefix> {
        Prefix::ALL.into_iter().find(|prefix| {
            let begin = self.name.as_bytes().get(..prefix.name().len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.name().as_bytes()))
        })
    }
}

/// How a name begins that browsers hold to rules, in whatever case (RFC 6265bis §5.4).
///
/// All of them ask for `Secure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    Host,
    Secure,
    /// From draft-ietf-httpbis-layered-cookies; what else it asks for, `HttpOnly`, is always said.
    Http,
}

impl Prefix {
    const ALL: [Self; 3] = [Self::Host, Self::Secure, Self::Http];

    const fn name(self) -> &'static str {
        match self {
            Self::Host => "__Host-",
            Self::Secure => "__Secure-",
            Self::Http => "__Http-",
        }
    }

    /// Whether it asks for the path "/" and no domain as well.
    fn binds_to_host(self) -> bool {
        self == Self::Host
    }
}

/// `1*tchar` (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(of_token)
}

/// `path-value` (RFC 6265bis §4.1.1) that browsers neither replace with a default nor trim.
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.ends_with(' ')
        && text
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b';')
}

/// `subdomain` (RFC 1034 §3.5, RFC 1123 §2.1), and no address: an address has nothing below it.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// The values of the cookie `name`, on all `Cookie` lines and in their order.
///
/// A name can come twice, for two paths or from a neighbour that planted one; which of them counts
/// is for the caller to judge. Names compare exactly (RFC 6265bis §5.4). The quotes that some
/// clients put around a value are not part of it.
pub fn values<'f>(fields: &'f Fields, name: &str) -> impl Iterator<Item = &'f [u8]> {
    fields
        .get_all(&header::COOKIE)
        .flat_map(|line| line.split(|byte| *byte == b';'))
        .filter(move |pair| name_of(pair) == name.as_bytes())
        .filter_map(value_of)
}

/// What a `Set-Cookie` says before its attributes (RFC 6265bis §5.6).
pub(super) fn pair_of(set: &[u8]) -> &[u8] {
    set.split(|byte| *byte == b';').next().unwrap_or(set)
}

/// What stands before the first `=`, or all of it where there is none.
pub(super) fn name_of(pair: &[u8]) -> &[u8] {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
    name.trim_ascii()
}

/// What stands behind the first `=`; where there is none, the cookie has no name but a value, which
/// is nobody's here (RFC 6265bis §5.6).
pub(in crate::rules) fn value_of(pair: &[u8]) -> Option<&[u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let value = pair[equals + 1..].trim_ascii();
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    Some(inner.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::rules::form::Lines;
    use crate::rules::headers::HeaderRules;

    const NAME: &str = "__Host-refresh";

    fn cookie() -> Cookie {
        Cookie {
            name: NAME.into(),
            path: "/".into(),
            domain: None,
            secure: true,
            same_site: SameSite::Strict,
            partitioned: false,
        }
    }

    fn shared() -> Cookie {
        Cookie {
            name: "refresh".into(),
            path: "/auth".into(),
            domain: Some("example.com".into()),
            secure: false,
            same_site: SameSite::Lax,
            partitioned: false,
        }
    }

    fn keys(cookie: &Cookie) -> Vec<&'static str> {
        cookie.problems().iter().map(|(key, ..)| *key).collect()
    }

    fn read(lines: &[&str], name: &str) -> Vec<String> {
        let mut fields = Fields::default();
        for line in lines {
            fields.append(
                header::COOKIE,
                HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        values(&fields, name)
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn is_set_as_promised() {
        let week = Duration::from_secs(7 * 24 * 3600);
        assert_eq!(
            cookie().set("gr_1", week),
            "__Host-refresh=gr_1; Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=Strict"
        );
        assert_eq!(
            shared().set("gr_1", week),
            "refresh=gr_1; Path=/auth; Domain=example.com; Max-Age=604800; HttpOnly; SameSite=Lax"
        );
        let embedded = Cookie {
            same_site: SameSite::None,
            partitioned: true,
            ..cookie()
        };
        assert_eq!(
            embedded.set("gr_1", week),
            "__Host-refresh=gr_1; Path=/; Max-Age=604800; Secure; HttpOnly; SameSite=None; Partitioned"
        );
    }

    #[test]
    fn setting_never_removes() {
        for (max_age, written) in [
            (Duration::ZERO, "Max-Age=1;"),
            (Duration::from_millis(900), "Max-Age=1;"),
            (Duration::from_millis(1999), "Max-Age=1;"),
            (Duration::from_secs(2), "Max-Age=2;"),
        ] {
            let line = cookie().set("v", max_age);
            assert!(line.contains(written), "{line}");
        }
    }

    #[test]
    fn is_removed_under_the_attributes_that_it_was_set_with() {
        assert_eq!(
            cookie().clear(),
            "__Host-refresh=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; HttpOnly; SameSite=Strict"
        );
        assert_eq!(
            shared().clear(),
            "refresh=; Path=/auth; Domain=example.com; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax"
        );
        let partitioned = Cookie {
            partitioned: true,
            ..cookie()
        };
        assert!(partitioned.clear().ends_with("; Partitioned"));
    }

    #[test]
    fn what_browsers_take_is_no_problem() {
        let embedded = Cookie {
            path: "/auth".into(),
            same_site: SameSite::None,
            secure: true,
            partitioned: true,
            ..shared()
        };
        let secure = Cookie {
            name: "__Secure-refresh".into(),
            secure: true,
            ..shared()
        };
        // It begins like no prefix.
        let host = Cookie {
            name: "__Host".into(),
            ..shared()
        };
        for cookie in [cookie(), shared(), embedded, secure, host] {
            assert_eq!(cookie.problems(), [], "{cookie:?}");
        }
    }

    #[test]
    fn a_prefix_is_held_to_its_rules_in_any_case() {
        for name in [NAME, "__host-refresh", "__HOST-", "__Host-Http-refresh"] {
            let cookie = Cookie {
                name: name.into(),
                ..shared()
            };
            assert_eq!(keys(&cookie), ["path", "domain", "secure"], "{name}");
        }
        for name in ["__Secure-refresh", "__SECURE-", "__Http-refresh"] {
            let cookie = Cookie {
                name: name.into(),
                ..shared()
            };
            assert_eq!(keys(&cookie), ["secure"], "{name}");
        }
    }

    #[test]
    fn what_goes_everywhere_is_secure() {
        let everywhere = Cookie {
            same_site: SameSite::None,
            partitioned: true,
            ..shared()
        };
        assert_eq!(keys(&everywhere), ["same_site", "partitioned"]);
    }

    #[test]
    fn the_name_is_a_token() {
        for name in ["", "a b", "a;b", "a=b", "a,b", "\"a\"", "é", "a\n", "a/b"] {
            let cookie = Cookie {
                name: name.into(),
                ..shared()
            };
            assert_eq!(keys(&cookie), ["name"], "{name:?}");
        }
    }

    #[test]
    fn the_path_is_one_that_browsers_keep() {
        for path in ["", "auth", " /", "/a;b", "/a\n", "/a\u{7f}", "/é", "/a "] {
            let cookie = Cookie {
                path: path.into(),
                ..shared()
            };
            assert_eq!(keys(&cookie), ["path"], "{path:?}");
        }
    }

    #[test]
    fn the_domain_is_a_plain_host_name() {
        let keys_of = |domain: &str| {
            keys(&Cookie {
                domain: Some(domain.into()),
                ..shared()
            })
        };
        for domain in ["example.com", "EXAMPLE.com", "a-b.1.co1", "localhost"] {
            assert!(keys_of(domain).is_empty(), "{domain}");
        }
        let label = "a".repeat(64);
        let long = ["a"; 128].join(".");
        for domain in [
            "",
            ".example.com",
            "example.com.",
            "a..b",
            "-a.b",
            "a-.b",
            "a_b.c",
            "example.com:443",
            "https://example.com",
            "example.com/",
            "*.example.com",
            "a b",
            "a;b",
            "é.example",
            "127.0.0.1",
            "[::1]",
            "::1",
            &label,
            &long,
        ] {
            assert_eq!(keys_of(domain), ["domain"], "{domain:?}");
        }
    }

    #[test]
    fn values_come_from_all_lines_in_order() {
        let lines = ["a=1; b=2;a=3", "c=4", "a=5"];
        assert_eq!(read(&lines, "a"), ["1", "3", "5"]);
        assert_eq!(read(&lines, "c"), ["4"]);
        assert!(read(&lines, "d").is_empty());
        assert!(read(&[], "a").is_empty());
    }

    #[test]
    fn values_are_taken_without_quotes_and_spaces() {
        for (line, value) in [
            ("a=1", "1"),
            ("a=\"1\"", "1"),
            (" a = 1 ", "1"),
            ("\ta\t=\t\"1\"\t", "1"),
            ("a=", ""),
            ("a=\"\"", ""),
            ("a=\"", "\""),
            ("a=\"1", "\"1"),
            ("a=1\"", "1\""),
            ("a=\"\"1\"\"", "\"1\""),
            ("a=b=c", "b=c"),
            ("a==", "="),
        ] {
            assert_eq!(read(&[line], "a"), [value], "{line}");
        }
    }

    #[test]
    fn names_compare_exactly() {
        let lines = ["A=1; a1=2; ba=3; \"a\"=4; a; =a; =a=5; a.=6; %61=7; a,=8"];
        assert!(read(&lines, "a").is_empty());
        assert_eq!(read(&["__host-refresh=1; __Host-refresh=2"], NAME), ["2"]);
    }

    proptest! {
        #[test]
        fn a_set_cookie_is_read_back(value in "[0-9A-Za-z_]{1,60}") {
            let line = cookie().set(&value, Duration::from_secs(60));
            let pair = line.split("; ").next().unwrap();
            let jar = format!("theme=dark; {pair}; lang=en");
            prop_assert_eq!(read(&[&jar], NAME), [value]);
        }

        #[test]
        fn what_is_no_problem_is_one_line_of_as_many_attributes(
            name in "(__Host-|__Secure-)?[ -~é\n]{0,3}",
            path in "/[ -~é\n]{0,3}",
            domain in proptest::option::of("[ -~é\n]{0,3}"),
            secure: bool,
        ) {
            let cookie = Cookie {
                name: name.into(),
                path: path.into(),
                domain: domain.map(Into::into),
                secure,
                ..cookie()
            };
            if cookie.problems().is_empty() {
                let attributes = 4 + usize::from(cookie.domain.is_some()) + usize::from(secure);
                for (line, more) in [(cookie.set("v", Duration::from_secs(1)), 1), (cookie.clear(), 2)] {
                    prop_assert!(HeaderValue::from_str(&line).unwrap().to_str().is_ok());
                    prop_assert_eq!(line.split(';').count(), attributes + more);
                }
            }
        }

        /// Whatever is read here never reaches an upstream.
        #[test]
        fn what_is_read_is_what_the_gateway_removes(
            lines in proptest::collection::vec("[ab;= \t\",]{0,16}|\\PC{0,12}", 0..4),
        ) {
            let mut fields = Fields::default();
            for line in &lines {
                fields.append(header::COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            let rules = HeaderRules::new("x-auth-", &[], &["a".into()]);
            let mut passed = Fields::default();
            for line in rules.cookies(&fields, Lines::of(&fields)) {
                passed.append(header::COOKIE, HeaderValue::from_bytes(&line).unwrap());
            }
            prop_assert_eq!(values(&passed, "a").count(), 0);
            prop_assert_eq!(values(&passed, "b").count(), values(&fields, "b").count());
        }
    }
}
