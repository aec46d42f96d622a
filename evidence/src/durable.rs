//! Replacing a small file so that a crash leaves the old bytes or the new ones, never a mixture.

use crate::source::BagSink;
use std::io;

/// Writes `bytes` as `path`: temporary file, sync, rename, sync of the folder.
///
/// A crash leaves the old file, or the new one, and perhaps `<path>.tmp`, which the next call reuses.
pub fn replace(sink: &mut dyn BagSink, path: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{path}.tmp");
    sink.create(&temporary)?;
    sink.append(&temporary, bytes)?;
    sink.sync_data(&temporary)?;
    sink.rename(&temporary, path)?;
    sink.sync_dir(parent(path))
}

/// Returns the folder of a path; the empty path is the root.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Makes a folder, and its name durable.
pub fn make_dir(sink: &mut dyn BagSink, path: &str) -> io::Result<()> {
    sink.make_dir(path)?;
    sink.sync_dir(parent(path))
}
