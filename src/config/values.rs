//! The values that TOML has no type for: durations, sizes, rates, networks, addresses, digests.
//!
//! Pure. Each has one parser, which the shape check, deserialization and the environment share,
//! and prints back what it parses. What a value may be at a given key is not judged here.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rules::bucket;
use crate::rules::time::Timestamp;

/// A value that is written as a string with a form of its own.
trait Written: Sized + fmt::Display {
    /// Its `format` in the schema.
    const FORMAT: &'static str;
    /// What it is called, with its article.
    const NAME: &'static str;
    /// How to write one.
    const EXAMPLE: &'static str;

    /// Reads one; `None` for anything else.
    fn parse(text: &str) -> Option<Self>;
}

/// What is wrong with `text` as a value of the schema's `format`: what it should be, and how such
/// a one is written. `None` where it is good, and for formats that are not gatelet's.
pub(super) fn misfit(format: &str, text: &str) -> Option<(&'static str, &'static str)> {
    fn of<T: Written>(text: &str) -> Option<(&'static str, &'static str)> {
        T::parse(text).is_none().then_some((T::NAME, T::EXAMPLE))
    }
    match format {
        Period::FORMAT => of::<Period>(text),
        Size::FORMAT => of::<Size>(text),
        SizeBound::FORMAT => of::<SizeBound>(text),
        PlainRate::FORMAT => of::<PlainRate>(text),
        Network::FORMAT => of::<Network>(text),
        Address::FORMAT => of::<Address>(text),
        Moment::FORMAT => of::<Moment>(text),
        Sha256::FORMAT => of::<Sha256>(text),
        _ => None,
    }
}

/// How a value of `format` is written, for someone who wrote another type.
pub(super) fn example(format: &str) -> Option<&'static str> {
    // No value is empty, so the empty string misfits every format known here.
    misfit(format, "").map(|(_, example)| example)
}

/// A length of time, such as `15m` or `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period(pub(super) Duration);

const PERIOD_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Written for Period {
    const FORMAT: &'static str = "gatelet-duration";
    const NAME: &'static str = "a duration";
    const EXAMPLE: &'static str = r#""500ms", "10s" or "1h30m""#;

    fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total: u64 = 0;
        let mut smallest = u64::MAX;
        while !rest.is_empty() {
            let (count, after) = leading_number(rest)?;
            let end = after
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let (unit, next) = after.split_at(end);
            let (_, milliseconds) = PERIOD_UNITS.iter().find(|(name, _)| *name == unit)?;
            // Larger units first, each once: "5s1h" is more likely a slip than a wish.
            if *milliseconds >= smallest {
                return None;
            }
            smallest = *milliseconds;
            total = total.checked_add(count.checked_mul(*milliseconds)?)?;
            rest = next;
        }
        (!text.is_empty()).then(|| Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let exact = PERIOD_UNITS
            .into_iter()
            .find(|(_, unit)| total != 0 && total.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) => write!(f, "{}{name}", total / unit),
            None => f.write_str("0s"),
        }
    }
}

/// A number of bytes, such as `10MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl Written for Size {
    const FORMAT: &'static str = "gatelet-size";
    const NAME: &'static str = "a size";
    const EXAMPLE: &'static str = r#""32KiB", "10MiB" or "1MB""#;

    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = leading_number(text)?;
        if unit.is_empty() {
            return Some(Self(count));
        }
        let (_, bytes) = SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        Some(Self(count.checked_mul(*bytes)?))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS
            .into_iter()
            .find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        match exact {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A size, or `unlimited`, which is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeBound(pub(super) Option<u64>);

impl Written for SizeBound {
    const FORMAT: &'static str = "gatelet-size-bound";
    const NAME: &'static str = "a size";
    const EXAMPLE: &'static str = r#""10MiB", "1MB" or "unlimited""#;

    fn parse(text: &str) -> Option<Self> {
        if text == "unlimited" {
            return Some(Self(None));
        }
        Size::parse(text).map(|Size(bytes)| Self(Some(bytes)))
    }
}

impl fmt::Display for SizeBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => Size(bytes).fmt(f),
            None => f.write_str("unlimited"),
        }
    }
}

/// A rate without its burst, such as `100/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlainRate {
    count: u64,
    unit: (&'static str, u64),
}

const RATE_UNITS: [(&str, u64); 4] = [
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl Written for PlainRate {
    const FORMAT: &'static str = "gatelet-rate";
    const NAME: &'static str = "a rate";
    const EXAMPLE: &'static str = r#""100/s", "60/m" or "1000/h""#;

    fn parse(text: &str) -> Option<Self> {
        let (count, rest) = leading_number(text)?;
        let name = rest.strip_prefix('/')?;
        let unit = RATE_UNITS.into_iter().find(|(unit, _)| *unit == name)?;
        // The interval between two requests is at least a nanosecond.
        (count > 0 && count <= unit.1).then_some(Self { count, unit })
    }
}

impl fmt::Display for PlainRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.0)
    }
}

/// A rate as users write it: plain, or a table that gives its burst too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Rate {
    /// The burst is one second's worth, and at least 1.
    Plain(PlainRate),
    /// With its own burst.
    Bursting(BurstingRate),
}

/// A rate as a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BurstingRate {
    /// The sustained rate.
    #[schemars(example = &"100/s")]
    rate: PlainRate,
    /// How many may come at once; absent: one second's worth, and at least 1.
    #[schemars(range(min = 1))]
    burst: Option<u32>,
}

impl Rate {
    /// This many a second, and as many at once.
    pub(super) const fn per_second(count: u64) -> Self {
        Self::Plain(PlainRate {
            count,
            unit: RATE_UNITS[0],
        })
    }

    /// The rate in the rules' terms.
    pub(super) fn built(self) -> bucket::Rate {
        let (plain, burst) = match self {
            Self::Plain(plain) => (plain, None),
            Self::Bursting(table) => (table.rate, table.burst),
        };
        let interval = (plain.unit.1 / plain.count).max(1);
        let a_second = u32::try_from(1_000_000_000 / interval).unwrap_or(u32::MAX);
        bucket::Rate {
            interval,
            burst: burst.unwrap_or(a_second).max(1),
        }
    }
}

/// A range of addresses in CIDR notation; a bare address is a range of one. One of IPv4-mapped
/// addresses is the range of the IPv4 addresses they are, as which every address is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

impl Written for Network {
    const FORMAT: &'static str = "gatelet-network";
    const NAME: &'static str = "a network";
    const EXAMPLE: &'static str = r#""10.0.0.0/8", "fd00::/8" or "192.0.2.7""#;

    fn parse(text: &str) -> Option<Self> {
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
        };
        Some(Self(canonical(net.trunc())))
    }
}

fn canonical(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(net) => net.addr().to_ipv4_mapped(),
        IpNet::V4(_) => None,
    };
    let shorter = mapped.zip(net.prefix_len().checked_sub(96));
    shorter
        .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
        .map_or(net, IpNet::V4)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) SocketAddr);

impl Written for Address {
    const FORMAT: &'static str = "gatelet-address";
    const NAME: &'static str = "an IP address and a port";
    const EXAMPLE: &'static str = r#""127.0.0.1:8080" or "[::]:8080""#;

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in time (RFC 3339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Timestamp);

impl Written for Moment {
    const FORMAT: &'static str = "date-time";
    const NAME: &'static str = "a time with its offset (RFC 3339)";
    const EXAMPLE: &'static str = r#""2027-01-01T00:00:00Z""#;

    fn parse(text: &str) -> Option<Self> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        let nanoseconds = u64::try_from(instant.as_nanosecond()).ok()?;
        Some(Self(Timestamp::from_nanoseconds(nanoseconds)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = i128::from(self.0.nanoseconds());
        match jiff::Timestamp::from_nanosecond(nanoseconds) {
            Ok(instant) => instant.fmt(f),
            Err(_) => f.write_str("a time out of range"),
        }
    }
}

/// A SHA-256 in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Sha256(pub(super) [u8; 32]);

impl Written for Sha256 {
    const FORMAT: &'static str = "gatelet-sha256";
    const NAME: &'static str = "a SHA-256 of 64 hexadecimal digits";
    const EXAMPLE: &'static str = "what `printf %s \"$KEY\" | sha256sum` prints";

    fn parse(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut digest = [0; 32];
        if pairs.len() != digest.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            let high = char::from(*high).to_digit(16)?;
            let low = char::from(*low).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256(…)")
    }
}

/// Splits the digits that `text` begins with from the rest. Digits may be grouped by `_`.
fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.starts_with('_') || digits.ends_with('_') {
        return None;
    }
    Some((digits.replace('_', "").parse().ok()?, rest))
}

/// Reads, prints and describes a written value; `or integer` takes a bare number too.
macro_rules! written {
    ($type:ty, $pattern:literal) => {
        written!($type, $pattern, String, json_schema!({
            "type": "string",
            "format": <$type as Written>::FORMAT,
            "pattern": $pattern,
        }));
    };
    ($type:ty, $pattern:literal or integer) => {
        written!($type, $pattern, TextOrNumber, json_schema!({
            "anyOf": [
                { "type": "string", "format": <$type as Written>::FORMAT, "pattern": $pattern },
                { "type": "integer", "minimum": 0 },
            ],
        }));
    };
    ($type:ty, $pattern:literal, $form:ty, $schema:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let form = <$form>::deserialize(deserializer)?;
                // The text itself stays out of the error: it may be a secret set down here.
                <$type as Written>::parse(&form.to_string())
                    .ok_or_else(|| D::Error::custom(format_args!("not {}", <$type as Written>::NAME)))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                <$type as Written>::FORMAT.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// A size is text with a unit or a bare number of bytes.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Number(u64),
}

impl fmt::Display for TextOrNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

written!(Period, r"^([0-9_]+(d|h|m|s|ms))+$");
written!(Size, r"^[0-9_]+([KkMmGg][Ii]?)?[Bb]?$" or integer);
written!(SizeBound, r"^(unlimited|[0-9_]+([KkMmGg][Ii]?)?[Bb]?)$" or integer);
written!(PlainRate, r"^[0-9_]+/[smhd]$");
written!(Network, r"^[0-9A-Fa-f:.]+(/[0-9]+)?$");
written!(Address, r"^.+:[0-9]+$");
written!(Moment, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+$");
written!(Sha256, r"^[0-9A-Fa-f]{64}$");
