//! Every production of EIP-4361's grammar, kept and broken.

use super::super::*;
use super::{EXAMPLES, FROM_VIEM, FULL, changed};

#[test]
fn every_alternative_of_the_grammar_is_taken() {
    for (from, to) in [
        // [ scheme "://" ] domain
        ("https://app.example:8443 wants", "app.example:8443 wants"),
        ("https://app.example:8443 wants", "h://app.example wants"),
        ("https://app.example:8443 wants", "a+b-c.1://x wants"),
        ("app.example:8443 wants", "u:p@[::1]:80 wants"),
        ("app.example:8443 wants", "%41 wants"),
        ("app.example:8443 wants", "127.0.0.1: wants"),
        // [ statement LF ] LF
        ("I accept the Terms: https://app.example/tos\n", ""),
        ("I accept the Terms: https://app.example/tos", ""),
        ("I accept the Terms: https://app.example/tos", " "),
        ("I accept the Terms: https://app.example/tos", "URI: a"),
        (
            "I accept the Terms: https://app.example/tos",
            ":/?#[]@!$&'()*+,;=-._~ aZ09",
        ),
        // uri
        (
            "https://app.example:8443/login?next=%2F#top",
            "did:key:z6Mk",
        ),
        ("https://app.example:8443/login?next=%2F#top", "a:"),
        // chain-id
        ("8453", "0"),
        ("8453", "1"),
        ("8453", "18446744073709551615"),
        // nonce
        ("fMzpyQLNdTnVWGLuH", "aZ09aZ09"),
        // date-time
        (
            "Issued At: 2026-01-02T03:04:05.678Z",
            "Issued At: 2026-01-02T03:04:05Z",
        ),
        (
            "Issued At: 2026-01-02T03:04:05.678Z",
            "Issued At: 2026-01-02t03:04:05.6+05:30",
        ),
        (
            "Issued At: 2026-01-02T03:04:05.678Z",
            "Issued At: 2016-12-31T23:59:60Z",
        ),
        // What is optional
        ("\nExpiration Time: 2026-01-02T03:14:05.678Z", ""),
        ("\nNot Before: 2026-01-02T03:04:05.678Z", ""),
        ("\nRequest ID: request-1", ""),
        ("request-1", ""),
        ("request-1", "aZ0-._~!$&'()*+,;=:@%2f"),
        ("\n- https://app.example/a", ""),
        (
            "\n- https://app.example/a\n- urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "",
        ),
        (
            "\nResources:\n- https://app.example/a\n- urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "",
        ),
    ] {
        assert_eq!(changed(from, to), None, "{from:?} {to:?}");
    }
}

#[test]
fn empty_lines_tell_a_statement_from_none() {
    let statement_of = |between: &str| {
        let statement = "I accept the Terms: https://app.example/tos\n\n";
        let text = FULL.replacen(&format!("\n\n{statement}"), between, 1);
        Message::parse(text.as_bytes())
            .map(|message| message.statement.map(str::to_owned))
            .map_err(|Malformed(why)| why)
    };
    assert_eq!(statement_of("\n\n\n"), Ok(None));
    assert_eq!(statement_of("\n\n\n\n"), Ok(Some(String::new())));
    assert_eq!(statement_of("\n\na\n\n"), Ok(Some("a".into())));
    for (between, word) in [
        ("\n", "follows the address"),
        ("\n\n", "follows the statement"),
        ("\n\n\n\n\n", "the URI is missing"),
        ("\na\n\n", "follows the address"),
        ("\n\na\n", "follows the statement"),
        ("\n\na\nb\n\n", "follows the statement"),
        ("\n\na\n\n\n", "the URI is missing"),
        ("\n\n\na\n\n", "the URI is missing"),
    ] {
        let problem = statement_of(between).unwrap_err();
        assert!(problem.contains(word), "{between:?}: {problem}");
    }
}

/// Each change makes the full message one that is refused, for a reason that has the word.
fn assert_refused(changes: &[(&str, &str, &str)]) {
    for (from, to, word) in changes {
        let problem = changed(from, to).unwrap_or("nothing");
        assert!(problem.contains(word), "{from:?} {to:?}: {problem}");
    }
}

#[test]
fn a_first_line_that_breaks_its_productions_is_refused() {
    let origin = "https://app.example:8443 wants";
    let domain = "app.example:8443 wants";
    assert_refused(&[
        // [ scheme "://" ] domain %s" wants you to sign in with your Ethereum account:" LF
        (origin, " wants", "domain"),
        (origin, "wants", "first line"),
        (origin, "https:// wants", "domain"),
        (origin, "://app.example wants", "scheme"),
        (origin, "1a://app.example wants", "scheme"),
        (origin, "a_b://app.example wants", "scheme"),
        (origin, "https:app.example wants", "domain"),
        (origin, "//app.example wants", "domain"),
        (origin, "https://a://b wants", "domain"),
        (domain, "app.example/ wants", "domain"),
        (domain, "app.example? wants", "domain"),
        (domain, "app.example# wants", "domain"),
        (domain, " app.example wants", "domain"),
        (domain, "app.example  wants", "domain"),
        (domain, "app example wants", "domain"),
        (domain, "äpp.example wants", "domain"),
        (domain, "a%zz wants", "domain"),
        (domain, "a:b wants", "domain"),
        (domain, "[::g] wants", "domain"),
        (domain, "app.example\n wants", "first line"),
        ("wants you", "Wants you", "first line"),
        ("account:\n", "account: \n", "first line"),
        ("account:\n", "account\n", "first line"),
        ("account:\n", "account:", "first line"),
    ]);
}

#[test]
fn an_address_and_a_statement_that_break_theirs_are_refused() {
    let statement = "I accept the Terms: https://app.example/tos";
    assert_refused(&[
        // address LF LF
        ("0xf39F", "0xF39F", "checksum"),
        ("0xf39F", "0Xf39F", "address"),
        ("0xf39F", "f39F", "address"),
        ("0xf39F", "0xf39", "address"),
        ("0xf39F", "0xf39Ff", "address"),
        ("0xf39F", " 0xf39F", "address"),
        ("2266\n", "2266 \n", "address"),
        // [ statement LF ] LF
        (statement, "\"quoted\"", "statement"),
        (statement, "100%", "statement"),
        (statement, "<b>", "statement"),
        (statement, "a\\b", "statement"),
        (statement, "a^b", "statement"),
        (statement, "a`b", "statement"),
        (statement, "{a}", "statement"),
        (statement, "a|b", "statement"),
        (statement, "a\tb", "statement"),
        (statement, "a\0b", "statement"),
        (statement, "a\u{7f}b", "statement"),
        (statement, "Zoë", "statement"),
        (statement, "a\u{2028}b", "statement"),
    ]);
}

#[test]
fn fields_that_break_theirs_are_refused() {
    let uri = "https://app.example:8443/login?next=%2F#top";
    let long_nonce = format!("{}-", "a".repeat(100));
    assert_refused(&[
        // %s"URI: " uri LF
        ("URI: ", "Uri: ", "URI is missing"),
        ("URI: ", "URI:", "URI is missing"),
        ("URI: ", "URI:  ", "URI is not"),
        (uri, "", "URI is not"),
        (uri, "/login", "URI is not"),
        (uri, "app.example", "URI is not"),
        (uri, "https://app.example/ ", "URI is not"),
        (uri, "https://app.example/é", "URI is not"),
        (uri, "https://app.example/%", "URI is not"),
        (uri, "https://app.example/#a#b", "URI is not"),
        // %s"Version: " version LF
        ("Version: 1", "version: 1", "version is missing"),
        ("Version: 1", "Version: 2", "version is not 1"),
        ("Version: 1", "Version: 01", "version is not 1"),
        ("Version: 1", "Version: 1 ", "version is not 1"),
        ("Version: 1", "Version: ", "version is not 1"),
        ("Version: 1\n", "", "version is missing"),
        // %s"Chain ID: " chain-id LF
        ("Chain ID: ", "Chain Id: ", "chain id is missing"),
        ("8453", "", "chain id is not"),
        ("8453", "08453", "chain id is not"),
        ("8453", "00", "chain id is not"),
        ("8453", "+1", "chain id is not"),
        ("8453", "-1", "chain id is not"),
        ("8453", "0x1", "chain id is not"),
        ("8453", "1.0", "chain id is not"),
        ("8453", "1 ", "chain id is not"),
        ("8453", "١", "chain id is not"),
        ("8453", "18446744073709551616", "chain id is not"),
        // %s"Nonce: " nonce LF
        ("Nonce: ", "nonce: ", "nonce is missing"),
        ("fMzpyQLNdTnVWGLuH", "", "nonce is not"),
        ("fMzpyQLNdTnVWGLuH", "1234567", "nonce is not"),
        ("fMzpyQLNdTnVWGLuH", "1234567_", "nonce is not"),
        ("fMzpyQLNdTnVWGLuH", "1234567 ", "nonce is not"),
        ("fMzpyQLNdTnVWGLuH", "ëëëë", "nonce is not"),
        ("fMzpyQLNdTnVWGLuH", &long_nonce, "nonce is not"),
    ]);
}

#[test]
fn times_that_break_theirs_are_refused() {
    let issued_at = "Issued At: 2026-01-02T03:04:05.678Z";
    let expiration = "Expiration Time: 2026-01-02T03:14:05.678Z";
    let not_before = "Not Before: 2026-01-02T03:04:05.678Z";
    assert_refused(&[
        // %s"Issued At: " issued-at, and the other times
        (
            issued_at,
            "Issued at: 2026-01-02T03:04:05Z",
            "issued-at time is missing",
        ),
        (issued_at, "Issued At: 2026-01-02", "issued-at time is not"),
        (
            issued_at,
            "Issued At: 2026-02-29T00:00:00Z",
            "issued-at time is not",
        ),
        (
            issued_at,
            "Issued At: 1969-12-31T23:59:59Z",
            "issued-at time is not",
        ),
        (issued_at, "Issued At: ", "issued-at time is not"),
        (
            expiration,
            "Expiration Time: never",
            "expiration time is not",
        ),
        (
            expiration,
            "Expiration Time: 9999-12-31T23:59:59Z",
            "expiration time is not",
        ),
        (
            expiration,
            "Expiration time: 2026-01-02T03:14:05Z",
            "out of place",
        ),
        (expiration, "", "out of place"),
        (not_before, "Not Before: ", "not-before time is not"),
        (
            not_before,
            "Not before: 2026-01-02T03:04:05Z",
            "out of place",
        ),
    ]);
}

#[test]
fn lists_and_names_that_break_theirs_are_refused() {
    let resource = "- https://app.example/a";
    assert_refused(&[
        // [ LF %s"Request ID: " request-id ]
        ("request-1", "a/b", "request id holds"),
        ("request-1", "a b", "request id holds"),
        ("request-1", "a?b", "request id holds"),
        ("request-1", "a%b", "request id holds"),
        ("request-1", "é", "request id holds"),
        ("Request ID: request-1", "Request ID:", "out of place"),
        // [ LF %s"Resources:" resources ]
        ("Resources:", "resources:", "out of place"),
        ("Resources:", "Resources: ", "out of place"),
        (resource, "https://app.example/a", "out of place"),
        (resource, "-https://app.example/a", "out of place"),
        (resource, "* https://app.example/a", "out of place"),
        (resource, "", "out of place"),
        (resource, "- ", "resource"),
        (resource, "-  https://app.example/a", "resource"),
        (resource, "- app.example/a", "resource"),
        (resource, "- https://app.example/a b", "resource"),
    ]);
}

#[test]
fn lines_come_in_their_order_and_once() {
    let lines: Vec<&str> = FULL.split('\n').collect();
    for line in 0..lines.len() {
        let mut doubled = lines.clone();
        doubled.insert(line, lines[line]);
        let doubled = doubled.join("\n");
        // The list may hold a resource twice, and an empty line after the address makes no
        // statement of the one that follows, which is then no URI.
        let taken = lines[line].starts_with("- ");
        assert_eq!(
            Message::parse(doubled.as_bytes()).is_ok(),
            taken,
            "{doubled}"
        );
        for other in line + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(line, other);
            let same = lines[line] == lines[other] || lines[line].starts_with("- ");
            let swapped = swapped.join("\n");
            assert_eq!(
                Message::parse(swapped.as_bytes()).is_ok(),
                same,
                "{swapped}"
            );
        }
    }
}

#[test]
fn nothing_comes_before_or_after() {
    for text in EXAMPLES.into_iter().chain(FROM_VIEM.map(|(text, _)| text)) {
        for tail in [
            "\n",
            " ",
            "\0",
            "\n\n",
            "\nx",
            "\nResources:",
            "\nVersion: 1",
            "\u{feff}",
        ] {
            let longer = format!("{text}{tail}");
            // Without resources, the label alone is an empty list of them.
            let taken = tail == "\nResources:" && !text.contains(tail);
            assert_eq!(
                Message::parse(longer.as_bytes()).is_ok(),
                taken,
                "{longer:?}"
            );
        }
        for head in ["\n", " ", "\0", "\u{feff}"] {
            let longer = format!("{head}{text}");
            assert!(Message::parse(longer.as_bytes()).is_err(), "{longer:?}");
        }
        for carriage_return in [text.replace('\n', "\r\n"), text.replacen('\n', "\r", 1)] {
            let problem = Message::parse(carriage_return.as_bytes()).unwrap_err();
            assert_eq!(problem, Malformed("the message holds a carriage return"));
        }
        // Cut anywhere, the last line is what it is by chance, and no other is left out.
        let shortest = text.find("\nIssued At").unwrap();
        for end in 0..shortest {
            assert!(Message::parse(&text.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
