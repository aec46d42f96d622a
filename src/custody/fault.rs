//! Kill points for crash tests. Without the feature `fault` there is nothing here but empty functions.

/// Ends this process at once, as a power cut would, when the environment asks for it after entry `seq`.
#[cfg(not(feature = "fault"))]
#[inline]
pub(super) fn after_entry(_seq: u64) {}

/// Ends this process at once when the environment asks for it here.
#[cfg(not(feature = "fault"))]
#[inline]
pub(super) fn at(_point: &str) {}

/// Ends this process at once, as a power cut would, when `FIREBREAK_FAULT` is `kill-after-entry=SEQ`.
#[cfg(feature = "fault")]
pub(super) fn after_entry(seq: u64) {
    if asked("kill-after-entry=").and_then(|f| f.parse::<u64>().ok()) == Some(seq) {
        die();
    }
}

/// Ends this process at once when `FIREBREAK_FAULT` is `kill-at=POINT`.
#[cfg(feature = "fault")]
pub(super) fn at(point: &str) {
    if asked("kill-at=").as_deref() == Some(point) {
        die();
    }
}

#[cfg(feature = "fault")]
fn asked(what: &str) -> Option<String> {
    let fault = std::env::var("FIREBREAK_FAULT").ok()?;
    fault.strip_prefix(what).map(str::to_owned)
}

#[cfg(feature = "fault")]
fn die() {
    // SIGKILL to ourselves: no destructor runs, no buffer is flushed.
    _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort();
}
