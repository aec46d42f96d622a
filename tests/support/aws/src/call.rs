//! One request, read: which service, which action, signed by whom, about what.

use std::collections::BTreeMap;

use hyper::header::{AUTHORIZATION, HeaderMap, USER_AGENT};
use hyper::{Method, Uri};
use serde::Serialize;

/// How a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Form in, XML out: IAM, STS.
    Query,
    /// JSON in and out: Secrets Manager, CloudTrail.
    Json,
    /// Paths: S3.
    Rest,
}

/// A request that names an AWS action.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// `iam`, `sts`, `secretsmanager`, `cloudtrail`, `s3`, …
    pub service: String,
    /// `CreateAccessKey`, …
    pub action: String,
    /// Region that it was signed for.
    pub region: String,
    /// Access key id that signed it; `None` = not signed.
    pub key: Option<String>,
    /// How the service speaks.
    pub protocol: Protocol,
    /// Its parameters by name, those with a secret withheld.
    pub parameters: BTreeMap<String, String>,
    /// What the client calls itself.
    pub user_agent: String,
}

/// What stands for the value of a parameter that holds a secret.
pub const WITHHELD: &str = "<withheld>";

/// Parameters whose value is a secret.
const SECRET: [&str; 10] = [
    "SecretString",
    "SecretBinary",
    "SecretAccessKey",
    "Password",
    "NewPassword",
    "OldPassword",
    "TokenCode",
    "WebIdentityToken",
    "SAMLAssertion",
    "SecretToken",
];

impl Call {
    /// Reads a request; `None` when it is none of AWS's, such as a question of a double's own interface.
    pub fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Option<Call> {
        let signer = Signer::read(headers);
        let target = header(headers, "x-amz-target");
        let form = header(headers, "content-type").starts_with("application/x-www-form-urlencoded");
        let (protocol, action, parameters) = if let Some((_, action)) = target.rsplit_once('.') {
            (Protocol::Json, action.to_owned(), json_parameters(body))
        } else if form {
            let mut parameters = form_parameters(body);
            let action = parameters.remove("Action")?;
            (Protocol::Query, action, parameters)
        } else if signer.as_ref().is_some_and(|s| s.service == "s3") {
            let parameters = BTreeMap::from([("Path".to_owned(), uri.path().to_owned())]);
            (Protocol::Rest, object_action(method, uri), parameters)
        } else {
            return None;
        };
        let service = match &signer {
            Some(signer) => signer.service.clone(),
            // Only federated sign-in is unsigned.
            None => unsigned_service(target),
        };
        Some(Call {
            service,
            action,
            region: signer
                .as_ref()
                .map_or("us-east-1".to_owned(), |s| s.region.clone()),
            key: signer.map(|s| s.key),
            protocol,
            parameters: withhold(parameters),
            user_agent: header(headers, USER_AGENT.as_str()).to_owned(),
        })
    }

    /// True when it changes something that lasts. Sessions are minted, not kept: that is no change.
    pub fn writes(&self) -> bool {
        const READS: [&str; 9] = [
            "Get", "List", "Describe", "Lookup", "BatchGet", "Simulate", "Generate", "Validate",
            "Head",
        ];
        self.service != "sts"
            && self.service != "cloudtrail"
            && !READS.iter().any(|prefix| self.action.starts_with(prefix))
    }

    /// One parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// What the signature says about itself.
struct Signer {
    key: String,
    region: String,
    service: String,
}

impl Signer {
    /// `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=…, Signature=…`
    fn read(headers: &HeaderMap) -> Option<Signer> {
        let value = header(headers, AUTHORIZATION.as_str());
        let credential = value.split_once("Credential=")?.1.split(',').next()?;
        let parts: Vec<&str> = credential.split('/').collect();
        let [key, _, region, service, _] = parts[..] else {
            return None;
        };
        Some(Signer {
            key: key.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

fn unsigned_service(target: &str) -> String {
    match target.split_once('.') {
        Some((service, _)) => service.to_owned(),
        None => "sts".to_owned(),
    }
}

fn object_action(method: &Method, uri: &Uri) -> String {
    let object = uri.path().trim_matches('/').contains('/');
    let name = match (method.as_str(), object) {
        ("GET", true) => "GetObject",
        ("GET", false) => "ListObjects",
        ("PUT", true) => "PutObject",
        ("PUT", false) => "CreateBucket",
        ("DELETE", true) => "DeleteObject",
        ("DELETE", false) => "DeleteBucket",
        ("HEAD", true) => "HeadObject",
        ("HEAD", false) => "HeadBucket",
        _ => "PostObject",
    };
    name.to_owned()
}

fn form_parameters(body: &[u8]) -> BTreeMap<String, String> {
    String::from_utf8_lossy(body)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

/// Form encoding undone.
pub fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], hex) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn json_parameters(body: &[u8]) -> BTreeMap<String, String> {
    let parsed: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(body).unwrap_or_default();
    parsed
        .into_iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect()
}

fn withhold(mut parameters: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (name, value) in &mut parameters {
        if SECRET.contains(&name.as_str()) {
            *value = WITHHELD.to_owned();
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        pairs.collect()
    }

    const SIGNED: (&str, &str) = (
        "authorization",
        "AWS4-HMAC-SHA256 Credential=AKIAX/20260101/eu-west-1/iam/aws4_request, SignedHeaders=host, Signature=00",
    );

    #[test]
    fn a_form_tells_its_action_its_signer_and_no_password() {
        let form = (
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        );
        let body =
            b"Action=CreateLoginProfile&UserName=a%2Bb+c&Password=hunter2&Version=2010-05-08";
        let call = Call::read(
            &Method::POST,
            &Uri::from_static("/"),
            &headers(&[SIGNED, form]),
            body,
        )
        .unwrap();
        assert_eq!(call.action, "CreateLoginProfile");
        assert_eq!(call.key.as_deref(), Some("AKIAX"));
        assert_eq!(
            (call.service.as_str(), call.region.as_str()),
            ("iam", "eu-west-1")
        );
        assert_eq!(call.parameter("UserName"), Some("a+b c"));
        assert_eq!(call.parameter("Password"), Some(WITHHELD));
        assert!(call.writes());
    }

    #[test]
    fn a_json_call_tells_its_action_and_no_secret() {
        let target = ("x-amz-target", "secretsmanager.PutSecretValue");
        let body = br#"{"SecretId":"a","SecretString":"hunter2","VersionStages":["AWSPENDING"]}"#;
        let call = Call::read(
            &Method::POST,
            &Uri::from_static("/"),
            &headers(&[target]),
            body,
        )
        .unwrap();
        assert_eq!(call.service, "secretsmanager");
        assert_eq!(call.parameter("VersionStages"), Some(r#"["AWSPENDING"]"#));
        assert!(!format!("{call:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_not_of_aws_is_left_alone() {
        let uri = Uri::from_static("/_ministack/health");
        assert!(Call::read(&Method::GET, &uri, &HeaderMap::new(), b"").is_none());
    }
}
