//! Which route a request's path, host and method choose.
//!
//! Pure. The path is chosen first and the method second, so that a method no route of the path
//! takes is refused and never falls through to a wider route with a weaker requirement. What a
//! path can be taken for is judged in [`path`](mod@super::path); what a route requires in
//! [`policy`](super::policy).

use std::collections::HashMap;

use http::Method;

use crate::rules::path::{self, BadPath, Form};

pub mod escapes;
#[cfg(test)]
mod tests;
mod trie;

use trie::{Case, Choice, Hit, Trie};

/// How paths are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchOptions {
    /// ASCII case does not matter.
    pub ignore_case: bool,
    /// A path is the same with and without a trailing slash.
    pub ignore_trailing_slash: bool,
}

/// What a route covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The host, lower case and without a port; `None` is any.
    pub host: Option<Box<str>>,
    /// The path, or the path and everything below it.
    pub path: PathPattern,
}

impl Pattern {
    /// What two patterns have in common that cover the same: the host, how the path is meant, and
    /// the path.
    fn key(&self, options: MatchOptions) -> Key {
        let host = self.host.as_deref();
        Key {
            host: host.map(|host| bare_host(host).to_ascii_lowercase()),
            extent: self.path.extent(),
            path: self.path.normal(options),
        }
    }
}

/// What is the same in patterns that cover the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    host: Option<String>,
    extent: Extent,
    path: String,
}

/// How much of what begins like a pattern it covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Extent {
    Exact,
    Template,
    Prefix,
}

/// The paths that a route covers. Patterns are written decoded, and begin with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// Exactly this path.
    Exact(Box<str>),
    /// Exactly this path, where a segment like `{name}` stands for any segment.
    Template(Box<str>),
    /// This path and everything below it, by whole segments; a trailing slash makes no
    /// difference.
    Prefix(Box<str>),
}

impl PathPattern {
    /// The path as it is written.
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Template(text) | Self::Prefix(text) => text,
        }
    }

    /// What stands in a path that this template covers in place of `{name}`, decoded once; `None`
    /// where that is not UTF-8, or there is no such placeholder.
    ///
    /// `raw_path` is the path as the caller sent it.
    pub fn filled(&self, name: &str, raw_path: &str) -> Option<String> {
        let Self::Template(text) = self else {
            return None;
        };
        let place = segments(text.as_bytes()).position(|segment| {
            is_placeholder(segment) && segment[1..segment.len() - 1] == *name.as_bytes()
        })?;
        let raw = segments(raw_path.as_bytes()).nth(place)?;
        path::decoded(raw)
    }

    fn extent(&self) -> Extent {
        match self {
            Self::Exact(_) => Extent::Exact,
            Self::Template(_) => Extent::Template,
            Self::Prefix(_) => Extent::Prefix,
        }
    }

    /// The path as it is stored and compared.
    fn normal(&self, options: MatchOptions) -> String {
        let (text, keep_slash) = match self {
            Self::Exact(text) | Self::Template(text) => (text, !options.ignore_trailing_slash),
            Self::Prefix(text) => (text, false),
        };
        let text = if keep_slash {
            text
        } else {
            without_slash(text)
        };
        if options.ignore_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    }
}

/// The path without a slash at its end; the root stays as it is.
fn without_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(rest) => rest,
    }
}

/// The segments of a path that begins with `/`; the root has none.
fn segments(path: &[u8]) -> Segments<'_> {
    let rest = path.get(1..).filter(|rest| !rest.is_empty());
    Segments { rest }
}

/// What [`segments`] returns.
#[derive(Clone)]
struct Segments<'p> {
    /// What follows the last slash that was passed.
    rest: Option<&'p [u8]>,
}

impl<'p> Iterator for Segments<'p> {
    type Item = &'p [u8];

    fn next(&mut self) -> Option<&'p [u8]> {
        let rest = self.rest?;
        let slash = rest.iter().position(|byte| *byte == b'/');
        self.rest = slash.map(|slash| &rest[slash + 1..]);
        Some(&rest[..slash.unwrap_or(rest.len())])
    }
}

/// Whether a template's segment stands for any.
fn is_placeholder(segment: &[u8]) -> bool {
    segment.len() > 2 && segment.starts_with(b"{") && segment.ends_with(b"}")
}

/// Two routes of which neither beats the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tie {
    /// The place of the earlier route.
    pub first: usize,
    /// The place of the later one.
    pub second: usize,
}

/// All routes of one host and path, among which the method chooses.
#[derive(Debug)]
pub struct PathGroup {
    named: Vec<(Method, usize)>,
    any: Option<usize>,
    allow: Box<str>,
}

impl PathGroup {
    /// The place of the route that takes the method; a route that names it beats one that takes
    /// every method.
    ///
    /// Where none takes it, the methods that are taken, as `Allow` lists them (RFC 9110 §10.2.1).
    pub fn pick(&self, method: &Method) -> Result<usize, &str> {
        self.named
            .iter()
            .find_map(|(own, route)| (own == method).then_some(*route))
            .or(self.any)
            .ok_or(&self.allow)
    }

    /// Whether an upstream that reads methods without regard to case would take the method for one
    /// that another route than `place` serves.
    pub fn is_ambiguous(&self, method: &Method, place: usize) -> bool {
        let folded = method.as_str().to_ascii_uppercase();
        folded != method.as_str()
            && Method::from_bytes(folded.as_bytes())
                .is_ok_and(|folded| self.pick(&folded) != Ok(place))
    }

    /// Adds a route, and reports those it ties with.
    fn add(&mut self, route: usize, methods: &[Method], ties: &mut Vec<Tie>) {
        let mut tie = |first| {
            ties.push(Tie {
                first,
                second: route,
            });
        };
        if methods.is_empty() {
            match self.any {
                Some(first) => tie(first),
                None => self.any = Some(route),
            }
            return;
        }
        let mut reported = Vec::new();
        for method in methods {
            let taken = self.named.iter().find(|(own, _)| own == method);
            match taken {
                Some((_, first)) if *first == route || reported.contains(first) => {}
                Some((_, first)) => {
                    tie(*first);
                    reported.push(*first);
                }
                None => self.named.push((method.clone(), route)),
            }
        }
    }

    /// Lets the route of GET take HEAD, which is GET without the content (RFC 9110 §9.3.2).
    fn imply_head(&mut self) {
        let place = |wanted: &Method| self.named.iter().position(|(own, _)| own == wanted);
        if let (Some(get), None) = (place(&Method::GET), place(&Method::HEAD)) {
            self.named
                .insert(get + 1, (Method::HEAD, self.named[get].1));
        }
    }
}

/// What a request's path and host chose.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// The routes among which the method chooses.
    pub group: &'t PathGroup,
    /// The group's place in its table.
    pub place: usize,
    /// The path holds a `%2f`, which is refused unless the chosen route allows it.
    pub encoded_slash: bool,
}

/// Every route, by host and path.
#[derive(Debug)]
pub struct RouteTable {
    groups: Vec<PathGroup>,
    /// Routes that name a host, sorted by it.
    sites: Vec<(Box<str>, Site)>,
    /// Routes of any host.
    everywhere: Site,
    options: MatchOptions,
    /// A pattern holds an upper-case letter, so that folding changes more than the request.
    upper: bool,
}

/// The patterns of one host.
#[derive(Debug)]
struct Site {
    /// As written; as folded where case is ignored.
    own: Trie,
    /// In lower case.
    folded: Trie,
}

impl Site {
    fn new() -> Self {
        Self {
            own: Trie::new(),
            folded: Trie::new(),
        }
    }

    fn walk(&self, path: &[u8], trie: Which) -> Option<Hit> {
        match trie {
            Which::Own(case) => self.own.walk(segments(path), case),
            Which::Folded => self.folded.walk(segments(path), Case::Folded),
        }
    }
}

/// Under which spelling a path is looked up.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// The one that the options ask for.
    Own(Case),
    /// Lower case.
    Folded,
}

impl RouteTable {
    /// Builds the table; a route's place in `routes` is its number.
    ///
    /// A route that names GET takes HEAD too, unless another of the same path names that.
    ///
    /// Fails with all ties: the same host, the same path under `options`, and a method that both
    /// take. Of several routes that tie with each other, each is paired with the first.
    pub fn build<'a>(
        routes: impl IntoIterator<Item = (&'a Pattern, &'a [Method])>,
        options: MatchOptions,
    ) -> Result<Self, Vec<Tie>> {
        let mut table = Self {
            groups: Vec::new(),
            sites: Vec::new(),
            everywhere: Site::new(),
            options,
            upper: false,
        };
        let mut known = HashMap::new();
        let mut ties = Vec::new();
        for (route, (pattern, methods)) in routes.into_iter().enumerate() {
            let group = *known
                .entry(pattern.key(options))
                .or_insert_with_key(|key| table.insert(key));
            table.groups[group].add(route, methods, &mut ties);
        }
        if !ties.is_empty() {
            return Err(ties);
        }
        for group in &mut table.groups {
            group.imply_head();
            let names: Vec<&str> = group
                .named
                .iter()
                .map(|(method, _)| method.as_str())
                .collect();
            group.allow = names.join(", ").into();
        }
        Ok(table)
    }

    /// Makes room for a path that was not there yet, and says in which place.
    fn insert(&mut self, Key { host, extent, path }: &Key) -> usize {
        let group = self.groups.len();
        self.groups.push(PathGroup {
            named: Vec::new(),
            any: None,
            allow: Box::default(),
        });
        let is_placeholder =
            |segment: &[u8]| *extent == Extent::Template && is_placeholder(segment);
        let is_upper = |segment: &[u8]| segment.iter().any(u8::is_ascii_uppercase);
        // What a placeholder is called is in nobody's path.
        self.upper |=
            segments(path.as_bytes()).any(|segment| is_upper(segment) && !is_placeholder(segment));
        let lower = path.to_ascii_lowercase();
        let site = match host {
            None => &mut self.everywhere,
            Some(host) => {
                let search = self.sites.binary_search_by(|(own, _)| (**own).cmp(host));
                let place = search.unwrap_or_else(|place| {
                    let new = (host.as_str().into(), Site::new());
                    self.sites.insert(place, new);
                    place
                });
                &mut self.sites[place].1
            }
        };
        for (trie, path) in [(&mut site.own, path), (&mut site.folded, &lower)] {
            let exact = *extent != Extent::Prefix;
            trie.insert(segments(path.as_bytes()), is_placeholder, exact, group);
        }
        group
    }

    /// Finds the routes of a path, given as the caller sent it but for its query.
    ///
    /// `host` is the value of `Host` or `:authority`, with or without a port. `None` where no
    /// route covers the path. An error where another reading of the path chooses other routes
    /// than gatelet's: the upstream would serve what was not asked for here.
    pub fn find(
        &self,
        host: impl AsRef<[u8]>,
        raw_path: &str,
    ) -> Result<Option<Found<'_>>, BadPath> {
        self.find_scanned(host.as_ref(), raw_path, path::scan(raw_path.as_bytes())?)
    }

    /// Finds a path in the table `first`, or else in this one: at most one of the two is found.
    pub fn find_after<'t>(
        &'t self,
        first: &'t Self,
        host: &[u8],
        raw_path: &str,
    ) -> Result<[Option<Found<'t>>; 2], BadPath> {
        // Every reading of the path is one of the first's, or none is.
        let form = path::scan(raw_path.as_bytes())?;
        match first.find_scanned(host, raw_path, form)? {
            Some(found) => Ok([Some(found), None]),
            None => Ok([None, self.find_scanned(host, raw_path, form)?]),
        }
    }

    fn find_scanned(
        &self,
        host: &[u8],
        raw_path: &str,
        form: Form,
    ) -> Result<Option<Found<'_>>, BadPath> {
        let raw = raw_path.as_bytes();
        let site = self.site(host);
        let (choice, encoded_slash) = match form {
            Form::Plain { upper } => (self.choose(site, raw, upper)?, false),
            Form::Strange => (
                path::agree(raw, |reading| self.choose(site, reading, true))?,
                path::has_encoded_slash(raw),
            ),
        };
        Ok(choice.and_then(|place| self.recall(place, encoded_slash)))
    }

    /// What was found in this table, by its parts.
    pub fn recall(&self, place: usize, encoded_slash: bool) -> Option<Found<'_>> {
        self.groups.get(place).map(|group| Found {
            group,
            place,
            encoded_slash,
        })
    }

    /// Whether a route names a host: where none does, the path alone chooses.
    pub fn names_hosts(&self) -> bool {
        !self.sites.is_empty()
    }

    /// The routes that name this host.
    fn site(&self, host: &[u8]) -> Option<&Site> {
        if self.sites.is_empty() {
            return None;
        }
        let host = bare_host(std::str::from_utf8(host).ok()?)
            .bytes()
            .map(|byte| byte.to_ascii_lowercase());
        self.sites
            .binary_search_by(|(own, _)| own.bytes().cmp(host.clone()))
            .ok()
            .map(|place| &self.sites[place].1)
    }

    /// The group that one reading chooses; in any case, and without its trailing slash, it must
    /// choose the same.
    fn choose(
        &self,
        site: Option<&Site>,
        path: &[u8],
        upper: bool,
    ) -> Result<Option<usize>, BadPath> {
        let mut trimmed = path;
        while let [rest @ .., b'/'] = trimmed
            && !rest.is_empty()
        {
            trimmed = rest;
        }
        let one_less = path.strip_suffix(b"/").filter(|rest| !rest.is_empty());
        let path = match one_less {
            Some(rest) if self.options.ignore_trailing_slash => rest,
            _ => path,
        };
        let case = if self.options.ignore_case {
            Case::Folded
        } else {
            Case::Exact
        };
        let fold = !self.options.ignore_case && (upper || self.upper);

        let own = self.look_up(site, path, Which::Own(case));
        let choice = own.map(|hit| hit.choice);
        let differs = |path, which| self.look_up(site, path, which).map(|hit| hit.choice) != choice;
        if fold && differs(path, Which::Folded) {
            return Err(BadPath::Malformed(
                "the path is another route's in another case",
            ));
        }
        // A pattern that is written with its slash says that it matters.
        let spelled_out = own.is_some_and(|hit| hit.exact) && path.ends_with(b"/");
        if trimmed.len() < path.len()
            && !spelled_out
            && (differs(trimmed, Which::Own(case)) || (fold && differs(trimmed, Which::Folded)))
        {
            return Err(BadPath::Malformed(
                "the path is another route's without its trailing slash",
            ));
        }
        match choice {
            None => Ok(None),
            Some(Choice::Group(group)) => Ok(Some(group)),
            Some(Choice::Torn) => Err(BadPath::Malformed("the path is two routes' at once")),
        }
    }

    /// A host's own patterns beat those of any host.
    fn look_up(&self, site: Option<&Site>, path: &[u8], which: Which) -> Option<Hit> {
        site.and_then(|site| site.walk(path, which))
            .or_else(|| self.everywhere.walk(path, which))
    }
}

/// A host without its port, the dot that may end it, and the brackets of an IPv6 address.
fn bare_host(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    let name = match host.split_once(':') {
        // More than one colon and no brackets: an address, as a pattern may be written.
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}
