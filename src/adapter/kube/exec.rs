//! Running a command of a container's own image. *Low trust*: the suspect's tools answer.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::change::said;
use super::error::{Does, of_transport, too_slow};
use super::view::object_path;
use super::wire::{DEADLINE, segment};
use super::{KubeCluster, clean};
use crate::incident::body::ObjectRef;
use crate::port::{Cause, PortError};

/// Buffer between the socket and us. The library's own 1 KiB makes a round through the scheduler for each kilobyte.
const BUFFER: usize = 1 << 20;
/// What is kept of standard error.
pub(super) const STDERR: usize = 4096;
/// Most that a command which is run for its answer may print.
const ANSWER: usize = 4 << 20;

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    pub(super) exit: i32,
}

impl KubeCluster {
    /// The pod must be the one with this UID; exec itself has no such precondition.
    pub(super) async fn is_same_pod(&self, pod: &ObjectRef, tried: &str) -> Result<(), PortError> {
        let on = said(pod);
        let path = object_path("Pod", &pod.namespace, &pod.name)?;
        let Some(now) = self.wire.get_opt::<Value>(&path, tried, &on).await? else {
            return Err(PortError::new(
                Cause::NotFound,
                tried,
                clean(&on),
                "the pod is not there any more",
            ));
        };
        let uid = now["metadata"]["uid"].as_str().unwrap_or_default();
        if uid == pod.uid {
            return Ok(());
        }
        let detail = format!(
            "the pod was replaced: UID is now {uid}, expected {}",
            pod.uid
        );
        Err(PortError::new(
            Cause::Conflict,
            tried,
            clean(&on),
            clean(&detail),
        ))
    }

    /// Starts a command; its output is still to be read.
    pub(super) async fn start(
        &self,
        pod: &ObjectRef,
        container: &str,
        argv: &[String],
        tried: &str,
    ) -> Result<AttachedProcess, PortError> {
        let on = format!("{} container {container}", said(pod));
        segment(&pod.namespace)?;
        segment(&pod.name)?;
        self.is_same_pod(pod, tried).await?;
        let api: Api<Pod> = Api::namespaced(self.wire.client(), &pod.namespace);
        let how = AttachParams::default()
            .container(container)
            .max_stdout_buf_size(BUFFER)
            .max_stderr_buf_size(BUFFER);
        match tokio::time::timeout(DEADLINE, api.exec(&pod.name, argv, &how)).await {
            Ok(started) => started.map_err(|e| of_transport(&e, Does::Read, tried, &on)),
            Err(_) => Err(too_slow(DEADLINE, tried, &on)),
        }
    }

    /// Runs a command to its end, for its answer.
    pub(super) async fn run(
        &self,
        pod: &ObjectRef,
        container: &str,
        argv: &[String],
        within: Duration,
        tried: &str,
    ) -> Result<Said, PortError> {
        let on = format!("{} container {container}", said(pod));
        let whole = async {
            let mut process = self.start(pod, container, argv, tried).await?;
            let (stdout, stderr) = (process.stdout(), process.stderr());
            let status = process.take_status();
            let (stdout, stderr) = futures::join!(drained(stdout, ANSWER), drained(stderr, STDERR));
            let status = match status {
                Some(status) => status.await,
                None => None,
            };
            let status = serde_json::to_value(status).unwrap_or_default();
            let stderr = String::from_utf8_lossy(&stderr).into_owned();
            let exit = exit_of(&status).map_err(|(cause, detail)| {
                PortError::new(cause, tried, clean(&on), clean(&detail))
            })?;
            Ok(Said {
                stdout,
                stderr,
                exit,
            })
        };
        match tokio::time::timeout(within, whole).await {
            Ok(done) => done,
            Err(_) => Err(too_slow(within, tried, &on)),
        }
    }
}

/// Everything a stream brings, of which at most `keep` bytes are kept: an unread stream would block the other one.
pub(super) async fn drained(stream: Option<impl AsyncRead + Unpin>, keep: usize) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let Some(mut stream) = stream else {
        return kept;
    };
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let room = keep.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

/// Exit code from the Status that ends an exec, or why there is none: the command was never started, or the connection was cut.
pub(super) fn exit_of(status: &Value) -> Result<i32, (Cause, String)> {
    if status.is_null() {
        return Err((
            Cause::LostReply,
            "the connection ended before the command did".into(),
        ));
    }
    if status["status"] == "Success" {
        return Ok(0);
    }
    let message = status["message"].as_str().unwrap_or_default().to_owned();
    let causes = status["details"]["causes"].as_array();
    let code = causes
        .into_iter()
        .flatten()
        .find(|c| c["reason"] == "ExitCode");
    if let Some(code) = code.and_then(|c| c["message"].as_str()?.parse().ok()) {
        return match code {
            // What a shell and runtimes say for a command that they cannot find or start.
            126 | 127 if message.contains("exec") && message.contains("not found") => {
                Err((Cause::Unsupported, message))
            }
            code => Ok(code),
        };
    }
    let missing = ["not found", "no such file", "permission denied"];
    let lower = message.to_lowercase();
    if missing.iter().any(|m| lower.contains(m)) {
        return Err((Cause::Unsupported, message));
    }
    Err((Cause::Unreadable, message))
}

/// Words as owned arguments.
pub(super) fn words<const N: usize>(argv: [&str; N]) -> Vec<String> {
    argv.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_end_of_an_exec_is_read_as_exit_code_or_as_never_started() {
        assert_eq!(exit_of(&json!({ "status": "Success" })), Ok(0));
        let failed = json!({ "status": "Failure", "message": "command terminated with exit code 3",
            "details": { "causes": [{ "reason": "ExitCode", "message": "3" }] } });
        assert_eq!(exit_of(&failed), Ok(3));
        let missing = json!({ "status": "Failure", "message": "exec: \"nc\": executable file not found in $PATH" });
        assert_eq!(
            exit_of(&missing).expect_err("missing").0,
            Cause::Unsupported
        );
        assert_eq!(exit_of(&Value::Null).expect_err("cut").0, Cause::LostReply);
    }
}
