//! How keys are shown: text for people, JSON for programs. No digest is ever shown.

use std::io::{self, Write};

use serde::Serialize;

use crate::authn::keyring::Created;
use crate::rules::api_key::Record;
use crate::rules::time::Timestamp;
use crate::rules::units;

/// A key as programs see it; times are Unix seconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    id: &'a str,
    /// The secret, where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    name: &'a str,
    owner: Option<&'a str>,
    scopes: Vec<&'a str>,
    state: &'static str,
    created_at: u64,
    expires_at: Option<u64>,
    revoked_at: Option<u64>,
    rate_limit: Option<String>,
    /// Until when secrets from before a rotation work, for those that still do.
    older_secrets_until: Vec<u64>,
}

impl<'a> View<'a> {
    fn of(record: &'a Record, now: Timestamp) -> Self {
        Self {
            id: &record.id,
            key: None,
            name: &record.name,
            owner: record.owner.as_deref(),
            scopes: record.scopes.iter().collect(),
            state: state(record, now),
            created_at: record.created_at.seconds(),
            expires_at: record.expires_at.map(Timestamp::seconds),
            revoked_at: record.revoked_at.map(Timestamp::seconds),
            rate_limit: record.rate_limit.map(units::print_rate),
            older_secrets_until: older_secrets(record, now).map(Timestamp::seconds).collect(),
        }
    }

    fn with_key(created: &'a Created, now: Timestamp) -> Self {
        Self {
            key: Some(&created.secret),
            ..Self::of(&created.record, now)
        }
    }
}

pub(super) fn created(
    out: &mut dyn Write,
    created: &Created,
    now: Timestamp,
    json: bool,
) -> io::Result<()> {
    if json {
        return print_json(out, &View::with_key(created, now));
    }
    let Created { secret, record } = created;
    writeln!(
        out,
        "Key \"{}\" ({}), shown this once:",
        record.name, record.id
    )?;
    writeln!(out, "\n{}\n", **secret)?;
    writeln!(out, "Keep it safe: only a digest of it is stored.")
}

pub(super) fn rotated(
    out: &mut dyn Write,
    rotated: &Created,
    now: Timestamp,
    json: bool,
) -> io::Result<()> {
    if json {
        return print_json(out, &View::with_key(rotated, now));
    }
    let Created { secret, record } = rotated;
    writeln!(
        out,
        "New secret of key \"{}\" ({}), shown this once:",
        record.name, record.id
    )?;
    writeln!(out, "\n{}\n", **secret)?;
    match older_secrets(record, now).max() {
        Some(end) => writeln!(out, "The old one works until {}.", units::print_time(end)),
        None => writeln!(out, "The old one no longer works."),
    }
}

pub(super) fn revoked(
    out: &mut dyn Write,
    record: &Record,
    now: Timestamp,
    json: bool,
) -> io::Result<()> {
    if json {
        return print_json(out, &View::of(record, now));
    }
    let since = record
        .revoked_at
        .map_or_else(String::new, units::print_time);
    writeln!(
        out,
        "Key \"{}\" ({}) is revoked since {since}.",
        record.name, record.id
    )
}

pub(super) fn imported(out: &mut dyn Write, count: usize) -> io::Result<()> {
    match count {
        1 => writeln!(out, "Imported 1 key."),
        count => writeln!(out, "Imported {count} keys."),
    }
}

pub(super) fn show(
    out: &mut dyn Write,
    record: &Record,
    now: Timestamp,
    json: bool,
) -> io::Result<()> {
    if json {
        return print_json(out, &View::of(record, now));
    }
    let mut lines = vec![
        ("id", record.id.to_string()),
        ("name", record.name.to_string()),
        ("owner", or_dash(record.owner.as_deref())),
        ("scopes", or_dash(Some(&record.scopes.joined()))),
        ("state", state(record, now).to_owned()),
        ("created", units::print_time(record.created_at)),
        ("expires", time_or(record.expires_at, "never")),
        (
            "rate limit",
            record
                .rate_limit
                .map_or_else(|| "none".to_owned(), units::print_rate),
        ),
    ];
    if record.revoked_at.is_some() {
        lines.push(("revoked", time_or(record.revoked_at, "")));
    }
    for end in older_secrets(record, now) {
        lines.push((
            "old secret",
            format!("works until {}", units::print_time(end)),
        ));
    }
    for (name, value) in lines {
        writeln!(out, "{name:<11} {value}")?;
    }
    Ok(())
}

pub(super) fn list(
    out: &mut dyn Write,
    records: &[Record],
    now: Timestamp,
    json: bool,
) -> io::Result<()> {
    if json {
        let views: Vec<_> = records.iter().map(|record| View::of(record, now)).collect();
        return print_json(out, &views);
    }
    if records.is_empty() {
        return writeln!(
            out,
            "No keys yet; make one with `gatelet keys create --name NAME`."
        );
    }
    let heads = [
        "ID", "NAME", "OWNER", "SCOPES", "STATE", "CREATED", "EXPIRES",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(records.iter().map(|record| {
        [
            record.id.to_string(),
            record.name.to_string(),
            or_dash(record.owner.as_deref()),
            or_dash(Some(&record.scopes.joined())),
            state(record, now).to_owned(),
            units::print_time(record.created_at),
            time_or(record.expires_at, "never"),
        ]
    }));
    print_table(out, &rows)
}

fn print_table<const N: usize>(out: &mut dyn Write, rows: &[[String; N]]) -> io::Result<()> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    for row in rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// What state a key is in, whichever of its secrets is shown.
fn state(record: &Record, now: Timestamp) -> &'static str {
    if record.revoked_at.is_some() {
        "revoked"
    } else if record.expires_at.is_some_and(|end| end <= now) {
        "expired"
    } else {
        "active"
    }
}

/// Until when the secrets from before a rotation work, for those that still do.
fn older_secrets(record: &Record, now: Timestamp) -> impl Iterator<Item = Timestamp> {
    let works = record.revoked_at.is_none();
    record
        .secrets
        .iter()
        .filter(|secret| secret.until.is_some())
        .filter_map(|secret| record.good_until(&secret.digest))
        .filter(move |end| works && *end > now)
}

fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty())
        .unwrap_or("-")
        .to_owned()
}

fn time_or(time: Option<Timestamp>, absent: &str) -> String {
    time.map_or_else(|| absent.to_owned(), units::print_time)
}

fn print_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
