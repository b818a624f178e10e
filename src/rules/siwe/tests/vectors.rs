//! The vectors that the standard's implementations share, and where they go beyond its text.

use serde_json::Value;

use super::super::uri::Uri;
use super::super::*;
use super::{FROM_VIEM, changed};
use crate::rules::wallet::{BadSignature, Signature, recover};

#[test]
fn messages_of_another_library_are_read_and_their_signers_found() {
    for (text, signature) in FROM_VIEM {
        let message = Message::parse(text.as_bytes()).unwrap();
        let signature = Signature::parse(signature).unwrap();
        assert_eq!(recover(text.as_bytes(), &signature), Some(message.address));
    }
}

/// One file of the shared vectors: names and what they stand for.
fn vectors(file: &str) -> Vec<(String, Value)> {
    let Value::Object(vectors) = serde_json::from_str(file).unwrap() else {
        panic!("the vectors are not an object");
    };
    vectors.into_iter().collect()
}

/// Compares what was read with what the vectors say was to be read.
fn assert_fields(name: &str, message: &Message<'_>, fields: &Value) {
    let text = |key: &str| fields[key].as_str();
    let time = |key: &str| text(key).map(|time| date_time::parse(time).unwrap());
    assert_eq!(message.scheme, text("scheme"), "{name}");
    assert_eq!(Some(message.domain), text("domain"), "{name}");
    assert_eq!(
        Some(&*message.address.to_string()),
        text("address"),
        "{name}"
    );
    assert_eq!(message.statement, text("statement"), "{name}");
    assert_eq!(Some(message.uri), text("uri"), "{name}");
    assert_eq!(Some(message.chain_id), fields["chainId"].as_u64(), "{name}");
    assert_eq!(Some(message.nonce), text("nonce"), "{name}");
    assert_eq!(Some(message.issued_at), time("issuedAt"), "{name}");
    assert_eq!(message.expiration_time, time("expirationTime"), "{name}");
    assert_eq!(message.not_before, time("notBefore"), "{name}");
    assert_eq!(message.request_id, text("requestId"), "{name}");
    assert_resources(name, message, &fields["resources"]);
}

fn assert_resources(name: &str, message: &Message<'_>, expected: &Value) {
    let expected: Vec<&str> = expected
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(message.resources, expected, "{name}");
}

#[test]
fn shared_vectors_of_messages_are_read() {
    let positive = vectors(include_str!(
        "../../../../tests/vectors/siwe/parsing_positive.json"
    ));
    assert!(positive.len() > 15);
    for (name, vector) in positive {
        let message = Message::parse(vector["message"].as_str().unwrap().as_bytes())
            .unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_fields(&name, &message, &vector["fields"]);
    }
}

#[test]
fn shared_vectors_of_other_texts_are_refused() {
    let negative = [
        include_str!("../../../../tests/vectors/siwe/parsing_negative.json"),
        include_str!("../../../../tests/vectors/siwe/invalid_uris.json"),
        include_str!("../../../../tests/vectors/siwe/invalid_resources.json"),
    ];
    for (name, vector) in negative.into_iter().flat_map(vectors) {
        let text = vector.as_str().unwrap();
        assert!(Message::parse(text.as_bytes()).is_err(), "{name}");
    }
}

/// The libraries that share these warn of an address of one case. The grammar's comment says that
/// an address "must also conform to" EIP-55, and gatelet goes by that.
#[test]
fn an_address_without_checksum_is_refused() {
    for (name, vector) in vectors(include_str!(
        "../../../../tests/vectors/siwe/parsing_warnings.json"
    )) {
        let text = vector["message"].as_str().unwrap();
        let problem = Message::parse(text.as_bytes()).unwrap_err();
        assert_eq!(
            problem.0, "the address does not have its EIP-55 checksum",
            "{name}"
        );
    }
}

#[test]
fn shared_vectors_of_optional_fields_are_read() {
    for (name, vector) in vectors(include_str!(
        "../../../../tests/vectors/siwe/valid_specification.json"
    )) {
        let message = Message::parse(vector["msg"].as_str().unwrap().as_bytes()).unwrap();
        let items = &vector["items"];
        assert_eq!(message.statement, items["statement"].as_str(), "{name}");
        assert_eq!(message.request_id, items["requestId"].as_str(), "{name}");
        assert_resources(&name, &message, &items["resources"]);
    }
}

#[test]
fn shared_vectors_of_uris_are_read() {
    // The vectors allow leading zeros in the IPv4 part of an IPv6 address; `dec-octet` of
    // RFC 3986 §3.2.2, to which the standard refers, does not.
    let contradicted = ["uri://[::000.000.010.001]", "uri://[::001.099.200.255]"];
    for (name, vector) in vectors(include_str!(
        "../../../../tests/vectors/siwe/valid_uris.json"
    )) {
        let read = Message::parse(vector["msg"].as_str().unwrap().as_bytes());
        if contradicted.iter().any(|uri| name.ends_with(uri)) {
            assert_eq!(read, Err(Malformed("the URI is not a URI")), "{name}");
            continue;
        }
        let message = read.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let uri = Uri::parse(message.uri).unwrap();
        if let Some(scheme) = vector["uri"]["scheme"].as_str() {
            assert_eq!(uri.scheme, scheme, "{name}");
        }
        if let Some(host) = vector["uri"]["host"].as_str() {
            assert!(uri.authority.unwrap().contains(host), "{name}");
        }
    }
    for (name, vector) in vectors(include_str!(
        "../../../../tests/vectors/siwe/valid_resources.json"
    )) {
        let message = Message::parse(vector["msg"].as_str().unwrap().as_bytes())
            .unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_resources(&name, &message, &vector["resources"]);
    }
}

/// Each vector has characters for one rule of the grammar; they stand where the rule does.
#[test]
fn shared_vectors_of_characters_are_told_apart() {
    let files = [
        include_str!("../../../../tests/vectors/siwe/valid_chars.json"),
        include_str!("../../../../tests/vectors/siwe/invalid_chars.json"),
    ];
    for (name, vector) in files.into_iter().flat_map(vectors) {
        let input = vector["input"].as_str().unwrap();
        let statement = "I accept the Terms: https://app.example/tos";
        let (from, to) = match vector["rule"].as_str().unwrap() {
            "scheme" => (
                "https://app.example:8443 wants",
                format!("{input}://h wants"),
            ),
            "userinfo" => ("app.example:8443 wants", format!("{input}@h wants")),
            "reg-name" => ("app.example:8443 wants", format!("u@{input} wants")),
            "IPvFuture" => ("app.example:8443 wants", format!("[{input}] wants")),
            "statement" => (statement, input.to_owned()),
            "fragment" => ("#top", format!("#{input}")),
            "segment-nz" | "pct-encoded" => ("request-1", input.to_owned()),
            rule => panic!("there are vectors for {rule}"),
        };
        let expected = vector["answer"].as_bool().unwrap();
        assert_eq!(changed(from, &to).is_none(), expected, "{name}");
    }
}

/// Writes the message of a vector that has its fields, without the code that is tested.
fn written(fields: &Value) -> String {
    let text = |key: &str| fields[key].as_str().unwrap();
    let option = |label: &str, key: &str| {
        fields[key]
            .as_str()
            .map_or_else(String::new, |value| format!("\n{label}: {value}"))
    };
    format!(
        "{} wants you to sign in with your Ethereum account:\n{}\n\n{}\n\nURI: {}\nVersion: {}\nChain ID: {}\nNonce: {}\nIssued At: {}{}{}",
        text("domain"),
        text("address"),
        text("statement"),
        text("uri"),
        text("version"),
        fields["chainId"],
        text("nonce"),
        text("issuedAt"),
        option("Expiration Time", "expirationTime"),
        option("Not Before", "notBefore"),
    )
}

/// What comes of a vector of verification, by the rules here.
fn verified(fields: &Value) -> Result<(), String> {
    let text = written(fields);
    let message = Message::parse(text.as_bytes()).map_err(|problem| problem.to_string())?;
    assert_eq!(message.to_string(), text);
    let time = fields["time"].as_str().unwrap_or("2024-01-01T00:00:00Z");
    let domain = fields["domainBinding"].as_str().unwrap_or(message.domain);
    let expected = Expected {
        domains: &[domain.into()],
        chains: &[1],
        now: date_time::parse(time).unwrap(),
    };
    judge(&message, &expected).map_err(|problem| problem.to_string())?;
    if fields["matchNonce"]
        .as_str()
        .is_some_and(|nonce| nonce != message.nonce)
    {
        return Err("another nonce".to_owned());
    }
    let signature = Signature::parse(fields["signature"].as_str().unwrap())
        .map_err(|problem| problem.to_string())?;
    if recover(text.as_bytes(), &signature) != Some(message.address) {
        return Err("another signer".to_owned());
    }
    Ok(())
}

#[test]
fn shared_vectors_of_signed_messages_are_verified() {
    for (name, mut fields) in vectors(include_str!(
        "../../../../tests/vectors/siwe/verification_positive.json"
    )) {
        let expected = match &*name {
            // Issued after the time at which the vector has it verified.
            "expired message" => Err(Mismatch::IssuedAt.to_string()),
            // `www.tally.xyz` signs for `https://tally.xyz`. The standard leaves that open.
            "recovery byte starting at 0" => Err(Mismatch::Uri.to_string()),
            _ => Ok(()),
        };
        assert_eq!(verified(&fields), expected, "{name}");
        // Whatever is judged of them, all were signed by whom they name.
        let text = written(&fields);
        let signature = Signature::parse(fields["signature"].take().as_str().unwrap()).unwrap();
        let signer = recover(text.as_bytes(), &signature).map(|signer| signer.to_string());
        assert_eq!(signer.as_deref(), fields["address"].as_str(), "{name}");
    }
}

#[test]
fn shared_vectors_of_other_messages_are_refused() {
    let negative = vectors(include_str!(
        "../../../../tests/vectors/siwe/verification_negative.json"
    ));
    for (name, fields) in negative {
        let expected = match &*name {
            "expired message" | "custom time" => Mismatch::Expired.to_string(),
            "domain binding" => Mismatch::Domain.to_string(),
            "custom nonce" => "another nonce".to_owned(),
            // Half a byte more than a signature has.
            "malformed signature" => "the signature is not made of hexadecimal bytes".to_owned(),
            "wrong signature" => "another signer".to_owned(),
            "not yet valid" => Mismatch::NotYetValid.to_string(),
            "invalid issuedAt" => {
                "the issued-at time is not an RFC 3339 time from 1970 to 2554".to_owned()
            }
            "invalid notBefore" => {
                "the not-before time is not an RFC 3339 time from 1970 to 2554".to_owned()
            }
            "invalid expirationTime" => {
                "the expiration time is not an RFC 3339 time from 1970 to 2554".to_owned()
            }
            other => panic!("there is a vector named {other}"),
        };
        assert_eq!(verified(&fields), Err(expected), "{name}");
    }
}

/// Only the chain knows whether a contract agrees to these.
#[test]
fn shared_vectors_of_contracts_prove_nothing() {
    for (name, vector) in vectors(include_str!("../../../../tests/vectors/siwe/eip1271.json")) {
        let text = vector["message"].as_str().unwrap().as_bytes();
        let message = Message::parse(text).unwrap();
        match Signature::parse(vector["signature"].as_str().unwrap()) {
            Ok(signature) => assert_ne!(recover(text, &signature), Some(message.address), "{name}"),
            Err(problem) => assert_eq!(problem, BadSignature::Contract, "{name}"),
        }
    }
}
