//! The same tree, hashed by several threads.
//!
//! The records of a block are dealt out in batches that are aligned to the tree, so each full batch folds to one node;
//! the results are joined in order. Threads live no longer than the block.

use super::{BATCH, LeafHasher, SaltedTree, Salter};
use crate::encoding::Hash;
use crate::merkle::fold;
use aes::Aes256;
use aes::cipher::BlockEncrypt as _;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Below this many bytes the threads cost more than they save.
const WORTH_BYTES: usize = 256 * 1024;
const LEVEL: u32 = BATCH.trailing_zeros();

/// A run of records that one thread takes.
struct Deal<'a> {
    first_leaf: u64,
    from: usize,
    ends: &'a [u32],
}

/// What became of it: a node over a full aligned batch, or its leaves.
enum Hashed {
    Node(Hash),
    Leaves(Vec<Hash>),
}

pub(super) fn is_worth_it(from: usize, ends: &[u32]) -> bool {
    ends.last()
        .is_some_and(|end| *end as usize - from >= WORTH_BYTES)
}

pub(super) fn push_records(
    tree: &mut SaltedTree,
    block: &[u8],
    from: usize,
    ends: &[u32],
    alongside: impl FnOnce(),
) {
    let deals = deal(tree.size(), from, ends);
    let next = AtomicUsize::new(0);
    let cipher = &tree.salter.cipher;
    let work = || take(&deals, &next, cipher, block);
    let others = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .clamp(2, deals.len() + 1)
        - 1;
    let mut hashed = thread::scope(|scope| {
        let threads: Vec<_> = (0..others).map(|_| scope.spawn(work)).collect();
        alongside();
        let mut all = work();
        for thread in threads {
            all.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        all
    });
    hashed.sort_unstable_by_key(|(number, _)| *number);
    for ((_, hashed), deal) in hashed.into_iter().zip(&deals) {
        tree.join(hashed, deal.ends.len() as u64);
    }
}

/// Cuts the records at the borders of batches.
fn deal(size: u64, from: usize, ends: &[u32]) -> Vec<Deal<'_>> {
    let (mut deals, mut first_leaf, mut from, mut rest) = (Vec::new(), size, from, ends);
    while !rest.is_empty() {
        let room = BATCH - (first_leaf % BATCH as u64) as usize;
        let (now, later) = rest.split_at(room.min(rest.len()));
        deals.push(Deal {
            first_leaf,
            from,
            ends: now,
        });
        first_leaf += now.len() as u64;
        from = now.last().map_or(from, |end| *end as usize);
        rest = later;
    }
    deals
}

/// Takes deals until none is left.
fn take(
    deals: &[Deal<'_>],
    next: &AtomicUsize,
    cipher: &Aes256,
    block: &[u8],
) -> Vec<(usize, Hashed)> {
    let (mut hasher, mut done) = (LeafHasher::new(), Vec::new());
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(deal) = deals.get(number) else {
            return done;
        };
        done.push((number, hash(deal, cipher, &mut hasher, block)));
    }
}

fn hash(deal: &Deal<'_>, cipher: &Aes256, hasher: &mut LeafHasher, block: &[u8]) -> Hashed {
    let mut salts: Vec<_> = (deal.first_leaf..)
        .take(deal.ends.len())
        .map(Salter::counter)
        .collect();
    cipher.encrypt_blocks(&mut salts);
    let mut from = deal.from;
    let leaves = deal.ends.iter().zip(salts).map(|(end, salt)| {
        let record = &block[from..*end as usize];
        from = *end as usize;
        hasher.leaf(&salt.into(), record)
    });
    let mut leaves: Vec<Hash> = leaves.collect();
    if leaves.len() == BATCH {
        Hashed::Node(fold(&mut leaves))
    } else {
        Hashed::Leaves(leaves)
    }
}

impl SaltedTree {
    /// Appends what a thread has hashed; a node is over a batch that is aligned, so no leaf waits then.
    fn join(&mut self, hashed: Hashed, records: u64) {
        match hashed {
            Hashed::Node(node) => self.tree.push_subtree(node, LEVEL),
            Hashed::Leaves(leaves) => self.leaves.extend(leaves),
        }
        self.salter.skip(records);
        if self.salter.next.is_multiple_of(BATCH as u64) {
            self.tree.extend(&mut self.leaves);
        }
    }
}
