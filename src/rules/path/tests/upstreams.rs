//! Upstreams as they read a path, each written down as simply as it goes.
//!
//! Nothing of what is tested is used here: the steps are written a second time, slowly.

/// What an upstream takes a path for: its segments, and whether their case matters to it.
pub(super) struct Seen {
    pub(super) segments: Vec<Vec<u8>>,
    pub(super) folded: bool,
}

pub(super) type Upstream = fn(&str) -> Seen;

pub(super) const UPSTREAMS: [(&str, Upstream); 16] = [
    ("express", |raw| folded(decode_segments(raw.into()))),
    ("nginx", |raw| exact(dots(collapse(decode(raw.into()))))),
    ("nginx, merge_slashes off", |raw| {
        exact(dots(decode(raw.into())))
    }),
    ("apache, encoded slashes kept", |raw| {
        let segments = decode_segments(collapse(dots(collapse(decode_dots(raw.into())))));
        exact_segments(segments)
    }),
    ("tomcat", |raw| {
        exact(dots(collapse(decode(parameters(raw.into())))))
    }),
    ("tomcat, backslashes allowed", |raw| {
        exact(dots(collapse(backslashes(decode(parameters(raw.into()))))))
    }),
    ("jetty", |raw| {
        exact_segments(decode_segments(dots(parameters(decode_dots(raw.into())))))
    }),
    ("spring", |raw| {
        exact(dots(collapse(parameters(decode(raw.into())))))
    }),
    ("iis", |raw| {
        folded(split(dots(collapse(backslashes(decode(raw.into()))))))
    }),
    ("go", |raw| exact(dots(collapse(decode(raw.into()))))),
    ("node's URL", |raw| {
        exact_segments(decode_segments(authority(dots(backslashes(decode_dots(
            raw.into(),
        ))))))
    }),
    ("a decoded path parsed as a URL", |raw| {
        let url = until(until(backslashes(decode(raw.into())), b'#'), b'?');
        exact(dots(authority(url)))
    }),
    ("double decoder", |raw| {
        exact(dots(collapse(decode(decode(raw.into())))))
    }),
    ("double decoder on Windows", |raw| {
        folded(split(dots(collapse(backslashes(decode(decode(
            raw.into(),
        )))))))
    }),
    ("a proxy that cleans, before tomcat", |raw| {
        let cleaned = dots(collapse(decode(raw.into())));
        exact(dots(collapse(decode(parameters(cleaned)))))
    }),
    ("php behind a rewrite", |raw| {
        exact(until(
            until(collapse(decode(parameters(decode(raw.into())))), b'?'),
            b'#',
        ))
    }),
];

/// An upstream that takes the given steps, by number, and decodes at most twice.
pub(super) fn composed(raw: &str, steps: &[u8]) -> Seen {
    let mut path = raw.as_bytes().to_vec();
    let mut decoded = 0;
    for step in steps {
        path = match step % 9 {
            0 if decoded < 2 => {
                decoded += 1;
                decode(path)
            }
            1 => backslashes(path),
            2 => parameters(path),
            3 => collapse(path),
            4 => dots(path),
            5 if decoded > 0 => until(path, b'#'),
            6 if decoded > 0 => until(path, b'?'),
            7 => authority(path),
            8 => decode_dots(path),
            _ => path,
        };
    }
    let segments = if decoded == 0 {
        decode_segments(path)
    } else {
        split(path)
    };
    Seen {
        segments,
        folded: steps.len() % 2 == 1,
    }
}

fn exact(path: Vec<u8>) -> Seen {
    exact_segments(split(path))
}

fn exact_segments(segments: Vec<Vec<u8>>) -> Seen {
    Seen {
        segments,
        folded: false,
    }
}

fn folded(segments: Vec<Vec<u8>>) -> Seen {
    Seen {
        segments,
        folded: true,
    }
}

pub(super) fn decode_segments(path: Vec<u8>) -> Vec<Vec<u8>> {
    split(path).into_iter().map(decode).collect()
}

fn split(path: Vec<u8>) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .skip(1)
        .map(<[u8]>::to_vec)
        .collect()
}

fn join(segments: &[Vec<u8>]) -> Vec<u8> {
    let mut path = Vec::new();
    for segment in segments {
        path.push(b'/');
        path.extend(segment);
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

fn decode(path: Vec<u8>) -> Vec<u8> {
    decode_if(&path, |_| true)
}

/// What WHATWG's URL and RFC 3986's normalisation do before they look for dot segments.
fn decode_dots(path: Vec<u8>) -> Vec<u8> {
    decode_if(&path, |byte| byte == b'.')
}

fn decode_if(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let value = digits
            .filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match value {
            Some(value) if byte == b'%' && wanted(value) => {
                out.push(value);
                rest = &tail[2..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

fn backslashes(mut path: Vec<u8>) -> Vec<u8> {
    for byte in &mut path {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    path
}

fn parameters(path: Vec<u8>) -> Vec<u8> {
    let mut segments = split(path);
    for segment in &mut segments {
        if let Some(at) = segment.iter().position(|&byte| byte == b';') {
            segment.truncate(at);
        }
    }
    join(&segments)
}

fn collapse(path: Vec<u8>) -> Vec<u8> {
    let mut segments = split(path);
    let last = segments.len().saturating_sub(1);
    let mut at = 0;
    segments.retain(|segment| {
        at += 1;
        !segment.is_empty() || at > last
    });
    join(&segments)
}

/// Resolves dot segments; who climbs above the root stays there, as RFC 3986 has it.
fn dots(path: Vec<u8>) -> Vec<u8> {
    let mut stack: Vec<Vec<u8>> = Vec::new();
    let segments = split(path);
    let last = segments.len().saturating_sub(1);
    for (at, segment) in segments.into_iter().enumerate() {
        let dots = segment == b"." || segment == b"..";
        if segment == b".." {
            stack.pop();
        }
        if !dots {
            stack.push(segment);
        } else if at == last {
            stack.push(Vec::new());
        }
    }
    join(&stack)
}

fn until(path: Vec<u8>, end: u8) -> Vec<u8> {
    path.split(|&byte| byte == end)
        .next()
        .unwrap_or_default()
        .to_vec()
}

fn authority(path: Vec<u8>) -> Vec<u8> {
    if !path.starts_with(b"//") {
        return path;
    }
    let mut segments = split(path);
    while segments.first().is_some_and(Vec::is_empty) {
        segments.remove(0);
    }
    join(segments.get(1..).unwrap_or_default())
}
