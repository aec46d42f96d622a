//! Kill points for crash tests. Without the feature `fault` there is nothing here but an empty function.

/// Ends this process at once, as a power cut would, when the environment asks for it after entry `seq`.
#[cfg(not(feature = "fault"))]
#[inline]
pub(super) fn after_entry(_seq: u64) {}

/// Ends this process at once, as a power cut would, when `FIREBREAK_FAULT` is `kill-after-entry=SEQ`.
#[cfg(feature = "fault")]
pub(super) fn after_entry(seq: u64) {
    let asked = std::env::var("FIREBREAK_FAULT")
        .ok()
        .and_then(|f| f.strip_prefix("kill-after-entry=")?.parse::<u64>().ok());
    if asked == Some(seq) {
        // SIGKILL to ourselves: no destructor runs, no buffer is flushed.
        _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}
