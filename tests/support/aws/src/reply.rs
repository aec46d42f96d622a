//! Answers in the service's own protocol: the ones that we make, and the code in those that we pass on.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use serde_json::{Value, json};

use crate::call::{Call, Protocol};
use crate::xml;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// An answer of ours, in the protocol's content type.
    fn ours(call: &Call, status: u16, number: u64, body: String) -> Reply {
        let mut headers = HeaderMap::new();
        let kind = match call.protocol {
            Protocol::Query => "text/xml",
            Protocol::Json => "application/x-amz-json-1.1",
            Protocol::Rest => "application/xml",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let id = HeaderValue::from_str(&request_id(number)).expect("printable");
        headers.insert("x-amzn-requestid", id);
        Reply {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body: body.into(),
        }
    }

    /// A refusal in the service's own form.
    pub fn refusal(call: &Call, number: u64, status: u16, code: &str, message: &str) -> Reply {
        let (id, kind) = (
            request_id(number),
            if status < 500 { "Sender" } else { "Receiver" },
        );
        let message = if message.is_empty() { code } else { message };
        let body = match call.protocol {
            Protocol::Query => format!(
                "<ErrorResponse xmlns=\"{}\"><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
                 <RequestId>{id}</RequestId></ErrorResponse>",
                namespace(call),
                xml::escape(code),
                xml::escape(message)
            ),
            Protocol::Json => json!({ "__type": code, "message": message }).to_string(),
            Protocol::Rest => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{}</Code><Message>{}</Message>\
                 <RequestId>{id}</RequestId></Error>",
                xml::escape(code),
                xml::escape(message)
            ),
        };
        Reply::ours(call, status, number, body)
    }

    /// How the service refuses a key that it does not know, or that is Inactive.
    pub fn dead_key(call: &Call, number: u64) -> Reply {
        let message = "The security token included in the request is invalid.";
        match call.protocol {
            Protocol::Query => Reply::refusal(call, number, 403, "InvalidClientTokenId", message),
            Protocol::Json => {
                Reply::refusal(call, number, 400, "UnrecognizedClientException", message)
            }
            Protocol::Rest => Reply::refusal(call, number, 403, "InvalidAccessKeyId", message),
        }
    }

    /// How the service says that it is asked too often.
    pub fn throttled(call: &Call, number: u64) -> Reply {
        match call.protocol {
            Protocol::Query => Reply::refusal(call, number, 400, "Throttling", "Rate exceeded"),
            Protocol::Json => {
                Reply::refusal(call, number, 400, "ThrottlingException", "Rate exceeded")
            }
            Protocol::Rest => Reply::refusal(
                call,
                number,
                503,
                "SlowDown",
                "Please reduce your request rate.",
            ),
        }
    }

    /// Success without a result, as `UpdateAccessKey` and the puts and deletes of policies answer.
    pub fn done(call: &Call, number: u64) -> Reply {
        let action = xml::escape(&call.action);
        let body = match call.protocol {
            Protocol::Query => format!(
                "<{action}Response xmlns=\"{}\"><ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{action}Response>",
                namespace(call),
                request_id(number)
            ),
            Protocol::Json => "{}".to_owned(),
            Protocol::Rest => String::new(),
        };
        Reply::ours(call, 200, number, body)
    }

    /// A JSON answer.
    pub fn json(call: &Call, number: u64, value: &Value) -> Reply {
        Reply::ours(call, 200, number, value.to_string())
    }

    /// True for 2xx.
    pub fn ok(&self) -> bool {
        self.status.is_success()
    }

    /// The body as text; empty when it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("")
    }

    /// The error code, of an error.
    pub fn code(&self) -> Option<String> {
        if self.status.as_u16() < 400 {
            return None;
        }
        let from_xml = || xml::text(self.text(), "Code");
        let from_json = || {
            let parsed: Value = serde_json::from_str(self.text()).ok()?;
            let code = parsed.get("__type").or(parsed.get("code"))?.as_str()?;
            Some(code.rsplit('#').next().unwrap_or(code).to_owned())
        };
        from_xml().or_else(from_json)
    }

    /// The service's request id.
    pub fn request_id(&self) -> Option<String> {
        ["x-amzn-requestid", "x-amz-request-id"]
            .iter()
            .find_map(|name| self.headers.get(*name)?.to_str().ok())
            .map(str::to_owned)
            .or_else(|| xml::text(self.text(), "RequestId"))
    }

    /// True when the caller was not even recognised, so that nothing was used.
    pub fn refuses_the_key(&self) -> bool {
        const CODES: [&str; 9] = [
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "IncompleteSignature",
            "MissingAuthenticationToken",
            "ExpiredToken",
            "ExpiredTokenException",
        ];
        self.code()
            .is_some_and(|code| CODES.contains(&code.as_str()))
    }

    /// Puts another body in, with the headers that follow from it.
    pub fn replace(&mut self, body: impl Into<Bytes>) {
        self.body = body.into();
        self.headers.remove(CONTENT_LENGTH);
        self.headers.remove(TRANSFER_ENCODING);
    }
}

/// Ids of our own answers are told apart from the double's at a glance.
fn request_id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn namespace(call: &Call) -> &'static str {
    match call.service.as_str() {
        "sts" => "https://sts.amazonaws.com/doc/2011-06-15/",
        _ => "https://iam.amazonaws.com/doc/2010-05-08/",
    }
}
