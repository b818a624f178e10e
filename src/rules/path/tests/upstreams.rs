//! Upstreams as they read a path, each written down as simply as it goes.
//!
//! Nothing of what is tested is used here: the steps are written a second time, and plainly.

/// What an upstream takes a path for, and whether case matters to it.
pub(super) struct Seen {
    /// Decoded; a NUL is a slash that belongs to its segment.
    pub(super) path: Vec<u8>,
    pub(super) folded: bool,
}

pub(super) type Upstream = fn(&[u8]) -> Seen;

pub(super) const UPSTREAMS: [(&str, Upstream); 17] = [
    ("express", |raw| folded(decode_segments(raw))),
    ("nginx", |raw| exact(dots(&collapse(&decode(raw))))),
    ("nginx, merge_slashes off", |raw| exact(dots(&decode(raw)))),
    ("apache, encoded slashes kept", |raw| {
        exact(decode_segments(&dots(&collapse(&decode_dots(raw)))))
    }),
    ("tomcat", |raw| {
        exact(dots(&collapse(&decode(&parameters(raw)))))
    }),
    ("tomcat, backslashes allowed", |raw| {
        exact(dots(&collapse(&backslashes(&decode(&parameters(raw))))))
    }),
    ("jetty", |raw| {
        exact(decode_segments(&dots(&parameters(&decode_dots(raw)))))
    }),
    ("spring", |raw| {
        exact(dots(&collapse(&parameters(&decode(raw)))))
    }),
    ("iis", |raw| {
        folded(dots(&collapse(&backslashes(&decode(raw)))))
    }),
    ("aiohttp", |raw| exact(decode(&dots(raw)))),
    ("node's URL", |raw| {
        exact(decode_segments(&authority(&dots(&backslashes(
            &decode_dots(raw),
        )))))
    }),
    ("a decoded path parsed as a URL", |raw| {
        let url = until(&until(&backslashes(&decode(raw)), b'#'), b'?');
        exact(dots(&authority(&url)))
    }),
    ("double decoder", |raw| {
        exact(dots(&collapse(&decode(&decode(raw)))))
    }),
    ("double decoder on Windows", |raw| {
        folded(dots(&collapse(&backslashes(&decode(&decode(raw))))))
    }),
    ("a proxy that cleans, before tomcat", |raw| {
        let cleaned = dots(&collapse(&decode(raw)));
        exact(dots(&collapse(&decode(&parameters(&cleaned)))))
    }),
    ("express behind a proxy that decodes", |raw| {
        folded(decode_segments(&spaces(&dots(&collapse(&decode(raw))))))
    }),
    ("php behind a rewrite", |raw| {
        let rewritten = collapse(&decode(&parameters(&decode(raw))));
        exact(until(&until(&rewritten, b'?'), b'#'))
    }),
];

/// An upstream that takes the given steps, by number, and decodes once or twice.
pub(super) fn composed(raw: &[u8], steps: &[u8]) -> Seen {
    let mut path = raw.to_vec();
    let mut decoded = 0;
    for step in steps {
        path = match step % 10 {
            0 if decoded < 2 => {
                decoded += 1;
                decode(&path)
            }
            1 => backslashes(&path),
            2 => parameters(&path),
            3 => collapse(&path),
            4 => dots(&path),
            5 if decoded > 0 => until(&path, b'#'),
            6 if decoded > 0 => until(&path, b'?'),
            7 => authority(&path),
            8 => decode_dots(&path),
            9 => spaces(&path),
            _ => path,
        };
    }
    if decoded == 0 {
        path = decode_segments(&path);
    }
    Seen {
        path,
        folded: steps.len() % 2 == 1,
    }
}

fn exact(path: Vec<u8>) -> Seen {
    Seen {
        path,
        folded: false,
    }
}

fn folded(path: Vec<u8>) -> Seen {
    Seen { path, folded: true }
}

/// What follows the first slash, by slashes.
pub(super) fn split(path: &[u8]) -> Vec<&[u8]> {
    path[1..].split(|&byte| byte == b'/').collect()
}

fn join(segments: &[&[u8]]) -> Vec<u8> {
    let mut path = vec![b'/'];
    path.extend(segments.join(&b'/'));
    path
}

fn decode(path: &[u8]) -> Vec<u8> {
    decode_as(path, Some)
}

/// Decodes each segment by itself.
pub(super) fn decode_segments(path: &[u8]) -> Vec<u8> {
    decode_as(path, |byte| Some(if byte == b'/' { 0 } else { byte }))
}

/// What WHATWG's URL and RFC 3986's normalisation do before they look for dot segments.
fn decode_dots(path: &[u8]) -> Vec<u8> {
    decode_as(path, |byte| (byte == b'.').then_some(byte))
}

fn decode_as(path: &[u8], meaning: impl Fn(u8) -> Option<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let digit = |at: usize| char::from(*path.get(at)?).to_digit(16);
        let value = (path[at] == b'%')
            .then(|| Some(digit(at + 1)? * 16 + digit(at + 2)?))
            .flatten()
            .and_then(|value| u8::try_from(value).ok())
            .and_then(&meaning);
        out.push(value.unwrap_or(path[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    out
}

fn backslashes(path: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    for byte in &mut path {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    path
}

fn parameters(path: &[u8]) -> Vec<u8> {
    let mut segments = split(path);
    for segment in &mut segments {
        if let Some(at) = segment.iter().position(|&byte| byte == b';') {
            *segment = &segment[..at];
        }
    }
    join(&segments)
}

fn collapse(path: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    path.dedup_by(|second, first| *second == b'/' && *first == b'/');
    path
}

/// Resolves dot segments; who climbs above the root stays there, as RFC 3986 has it.
fn dots(path: &[u8]) -> Vec<u8> {
    let mut stack: Vec<&[u8]> = Vec::new();
    let segments = split(path);
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            b"." => {}
            b".." => {
                stack.pop();
            }
            other => {
                stack.push(other);
                continue;
            }
        }
        if at + 1 == segments.len() {
            stack.push(b"");
        }
    }
    join(&stack)
}

fn until(path: &[u8], end: u8) -> Vec<u8> {
    let end = path.iter().position(|&byte| byte == end);
    path[..end.unwrap_or(path.len())].to_vec()
}

/// Drops spaces at the end of each segment.
fn spaces(path: &[u8]) -> Vec<u8> {
    let mut segments = split(path);
    for segment in &mut segments {
        let end = segment.iter().rposition(|&byte| byte != b' ');
        *segment = &segment[..end.map_or(0, |end| end + 1)];
    }
    join(&segments)
}

fn authority(path: &[u8]) -> Vec<u8> {
    if !path.starts_with(b"//") {
        return path.to_vec();
    }
    let segments = split(path);
    let host = segments.iter().position(|segment| !segment.is_empty());
    join(host.map_or(&[], |host| &segments[host + 1..]))
}
