//! What a request's body says.

use http::header;
use serde::de::DeserializeOwned;

use crate::rules::decision::Reject;
use crate::rules::fields::Fields;

/// The body as JSON; an empty one is what `T` is by default.
pub(super) fn json<T: DeserializeOwned + Default>(
    fields: &Fields,
    body: &[u8],
) -> Result<T, Reject> {
    if body.is_empty() {
        return Ok(T::default());
    }
    if !is_of_type(fields, "application/json") {
        return Err(Reject::MediaTypeUnsupported("application/json"));
    }
    // A list would be taken for the members in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Reject::RequestMalformed("the body is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        Reject::RequestMalformed(match error.classify() {
            serde_json::error::Category::Data => {
                "the body is JSON of another shape than this route takes"
            }
            _ => "the body is not JSON",
        })
    })
}

/// The one value of a field in a form (RFC 7662 §2.1).
pub(super) fn form_field(
    fields: &Fields,
    body: &[u8],
    name: &str,
) -> Result<Option<String>, Reject> {
    const FORM: &str = "application/x-www-form-urlencoded";
    if !is_of_type(fields, FORM) {
        return Err(Reject::MediaTypeUnsupported(FORM));
    }
    let mut named = form_urlencoded::parse(body).filter(|(field, _)| field == name);
    let value = named.next().map(|(_, value)| value.into_owned());
    if named.next().is_some() {
        return Err(Reject::RequestMalformed(
            "a field of the form is there twice",
        ));
    }
    Ok(value)
}

fn is_of_type(fields: &Fields, wanted: &str) -> bool {
    let mut types = fields.get_all(&header::CONTENT_TYPE);
    let (Some(said), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = said.split(|byte| *byte == b';').next();
    essence.is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of_type(media_type: &'static str) -> Fields {
        Fields::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))])
    }

    #[test]
    fn json_is_read_where_it_is_said_to_be_json() {
        let body = br#"{"a":1}"#;
        for good in ["application/json", "Application/JSON; charset=utf-8"] {
            let read = json::<serde_json::Map<String, serde_json::Value>>(&of_type(good), body);
            assert_eq!(read.unwrap()["a"], 1);
        }
        for bad in ["text/plain", "application/jsonp"] {
            let read = json::<serde_json::Value>(&of_type(bad), body);
            assert!(matches!(read, Err(Reject::MediaTypeUnsupported(_))));
        }
        let json_type = of_type("application/json");
        for malformed in [&b"{"[..], b"[]", b"{}x", b"\xff"] {
            let read = json::<serde_json::Map<String, serde_json::Value>>(&json_type, malformed);
            assert!(matches!(read, Err(Reject::RequestMalformed(_))));
        }
    }

    #[test]
    fn a_form_has_a_field_once() {
        let form = of_type("application/x-www-form-urlencoded");
        let field = |body: &[u8]| form_field(&form, body, "token");
        assert_eq!(field(b"a=1&token=x%2By+z"), Ok(Some("x+y z".to_owned())));
        assert_eq!(field(b"a=1"), Ok(None));
        assert!(field(b"token=1&token=2").is_err());
    }
}
