//! Forensic copies as streams: logs as the API server sends them, standard output of an exec to its end.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use kube::api::AttachedProcess;
use kube::client::Body;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinHandle;

use super::change::said;
use super::error::{Does, of_transport, too_slow};
use super::exec::{STDERR, drained, exit_of};
use super::view::object_path;
use super::wire::encoded;
use super::{KubeCluster, clean};
use crate::incident::body::ObjectRef;
use crate::port::{Acquire, ByteStream, CaptureKind, Cause, Piece, PortError};

/// Longest pause between two pieces: a stream that says nothing for so long is taken for dead.
const IDLE: Duration = Duration::from_secs(30);

#[async_trait]
impl Acquire for KubeCluster {
    async fn capture(
        &self,
        pod: &ObjectRef,
        kind: &CaptureKind,
    ) -> Result<Box<dyn ByteStream>, PortError> {
        match kind {
            CaptureKind::Logs {
                container,
                previous,
                tail_lines,
            } => self.logs(pod, container, *previous, *tail_lines).await,
            CaptureKind::Exec { container, argv } => {
                let tried = "read by exec from";
                let mut process = self.start(pod, container, argv, tried).await?;
                let stdout = process.stdout();
                let stderr = tokio::spawn(drained(process.stderr(), STDERR));
                Ok(Box::new(Output {
                    on: format!("{} container {container}", said(pod)),
                    stdout,
                    stderr: Some(stderr),
                    process,
                    ended: false,
                }))
            }
        }
    }
}

impl KubeCluster {
    async fn logs(
        &self,
        pod: &ObjectRef,
        container: &str,
        previous: bool,
        tail: Option<u32>,
    ) -> Result<Box<dyn ByteStream>, PortError> {
        let tried = if previous {
            "read the previous log of"
        } else {
            "read the log of"
        };
        let on = format!("{} container {container}", said(pod));
        self.is_same_pod(pod, tried).await?;
        let mut path = object_path("Pod", &pod.namespace, &pod.name)?;
        path.push_str(&format!(
            "/log?container={}&timestamps=true&previous={previous}",
            encoded(container)
        ));
        if let Some(lines) = tail {
            path.push_str(&format!("&tailLines={lines}"));
        }
        let body = self.wire.stream(&path, tried, &on).await?;
        Ok(Box::new(Log {
            body: Some(body),
            tried,
            on,
        }))
    }
}

struct Log {
    body: Option<Body>,
    tried: &'static str,
    on: String,
}

#[async_trait]
impl ByteStream for Log {
    async fn next(&mut self) -> Option<Result<Piece, PortError>> {
        loop {
            let body = self.body.as_mut()?;
            let frame = match tokio::time::timeout(IDLE, body.frame()).await {
                Err(_) => {
                    self.body = None;
                    return Some(Err(too_slow(IDLE, self.tried, &self.on)));
                }
                Ok(frame) => frame,
            };
            match frame {
                None => {
                    self.body = None;
                    return Some(Ok(Piece::End {
                        exit: None,
                        stderr: String::new(),
                    }));
                }
                Some(Err(e)) => {
                    self.body = None;
                    return Some(Err(of_transport(&e, Does::Read, self.tried, &self.on)));
                }
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data()
                        && !bytes.is_empty()
                    {
                        return Some(Ok(Piece::Bytes(bytes.to_vec())));
                    }
                }
            }
        }
    }
}

struct Output<R> {
    stdout: Option<R>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    process: AttachedProcess,
    on: String,
    ended: bool,
}

#[async_trait]
impl<R: AsyncRead + Unpin + Send> ByteStream for Output<R> {
    async fn next(&mut self) -> Option<Result<Piece, PortError>> {
        if self.ended {
            return None;
        }
        if let Some(stdout) = self.stdout.as_mut() {
            let mut buffer = vec![0; 64 << 10];
            match tokio::time::timeout(IDLE, stdout.read(&mut buffer)).await {
                Err(_) => {
                    self.ended = true;
                    return Some(Err(too_slow(IDLE, "read by exec from", &self.on)));
                }
                Ok(Ok(n @ 1..)) => {
                    buffer.truncate(n);
                    return Some(Ok(Piece::Bytes(buffer)));
                }
                Ok(_) => self.stdout = None,
            }
        }
        self.ended = true;
        Some(self.end().await)
    }
}

impl<R> Output<R> {
    /// Only the Status says that the command ended by itself; without it the output may be cut.
    async fn end(&mut self) -> Result<Piece, PortError> {
        let status = match self.process.take_status() {
            Some(status) => tokio::time::timeout(IDLE, status).await.ok().flatten(),
            None => None,
        };
        let stderr = match self.stderr.take() {
            Some(task) => task.await.unwrap_or_default(),
            None => Vec::new(),
        };
        let status = serde_json::to_value(status).unwrap_or(Value::Null);
        let failed = |(cause, detail): (Cause, String)| {
            PortError::new(cause, "read by exec from", clean(&self.on), clean(&detail))
        };
        let exit = exit_of(&status).map_err(failed)?;
        let stderr = clean(&String::from_utf8_lossy(&stderr));
        Ok(Piece::End {
            exit: Some(exit),
            stderr,
        })
    }
}

impl<R> Drop for Output<R> {
    fn drop(&mut self) {
        if let Some(task) = &self.stderr {
            task.abort();
        }
    }
}
