//! The Merkle tree of RFC 6962 over SHA-256: growing it in constant memory, and proofs.

use crate::encoding::{Hash, sha256};
use sha2::digest::generic_array::GenericArray;
use sha2::digest::generic_array::typenum::U64;
use sha2::{Digest, Sha256};

/// The 64 bytes that SHA-256 takes at a time.
pub(crate) type Block = GenericArray<u8, U64>;

/// The first state of SHA-256 (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// Hashes blocks that are already padded.
pub(crate) fn hash_padded(blocks: &[Block]) -> Hash {
    let mut state = INITIAL;
    sha2::compress256(&mut state, blocks);
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

/// Returns `H(0x00 ‖ entry)` (RFC 6962, 2.1).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

/// Returns `H(0x01 ‖ left ‖ right)` (RFC 6962, 2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut blocks = [Block::default(), Block::default()];
    blocks[0][0] = 1;
    blocks[0][1..33].copy_from_slice(left);
    blocks[0][33..].copy_from_slice(&right[..31]);
    blocks[1][0] = right[31];
    blocks[1][1] = 0x80;
    blocks[1][56..].copy_from_slice(&(65u64 * 8).to_be_bytes());
    hash_padded(&blocks)
}

/// Returns the root of the empty tree, `H("")`.
pub fn empty_root() -> Hash {
    sha256(b"")
}

/// A tree that is only appended to, kept as the roots of its full subtrees: one hash per set bit of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    stack: Vec<Hash>,
}

impl CompactRange {
    /// Returns the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends one leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_subtree(leaf, 0);
    }

    /// Appends leaves in order. Aligned runs are folded level by level, which keeps the hashes independent of
    /// each other, so that the processor overlaps them.
    pub fn extend(&mut self, leaves: &mut Vec<Hash>) {
        let mut rest = leaves.as_mut_slice();
        while !rest.is_empty() {
            let level = self.level_for(rest.len());
            let (run, later) = rest.split_at_mut(1 << level);
            self.push_subtree(fold(run), level);
            rest = later;
        }
        leaves.clear();
    }

    /// The largest subtree that may stand at this position and that `count` leaves fill.
    fn level_for(&self, count: usize) -> u32 {
        let fits = usize::BITS - 1 - count.leading_zeros();
        self.size.trailing_zeros().min(fits)
    }

    /// Appends the root of a full subtree of `2^level` leaves, at a position that is a multiple of it.
    pub(crate) fn push_subtree(&mut self, root: Hash, level: u32) {
        let mut hash = root;
        let mut position = self.size >> level;
        while position & 1 == 1
            && let Some(left) = self.stack.pop()
        {
            hash = node_hash(&left, &hash);
            position >>= 1;
        }
        self.stack.push(hash);
        self.size += 1 << level;
    }

    /// Returns the root of the tree as it stands.
    pub fn root(&self) -> Hash {
        let mut roots = self.stack.iter().rev();
        let Some(last) = roots.next() else {
            return empty_root();
        };
        roots.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// Folds a power of two of leaves, in place, to their root.
pub(crate) fn fold(run: &mut [Hash]) -> Hash {
    let mut width = run.len();
    while width > 1 {
        for i in 0..width / 2 {
            run[i] = node_hash(&run[2 * i], &run[2 * i + 1]);
        }
        width /= 2;
    }
    run[0]
}

/// Returns the root of these leaves, `MTH` of RFC 6962.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut tree = CompactRange::new();
    tree.extend(&mut leaves.to_vec());
    tree.root()
}

/// The largest power of two below `n`, for `n` of 2 or more.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Returns the proof that leaf `index` is in the tree of `leaves` (RFC 6962, 2.1.1); `None` beyond the tree.
pub fn inclusion_proof(leaves: &[Hash], index: u64) -> Option<Vec<Hash>> {
    let at = usize::try_from(index)
        .ok()
        .filter(|at| *at < leaves.len())?;
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let k = usize::try_from(split(leaves.len() as u64)).ok()?;
    let (left, right) = leaves.split_at(k);
    let (inside, at, outside) = if at < k {
        (left, at, right)
    } else {
        (right, at - k, left)
    };
    let mut proof = inclusion_proof(inside, at as u64)?;
    proof.push(root(outside));
    Some(proof)
}

/// Returns whether `proof` shows `leaf` at `index` of the tree with `size` leaves and this root (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut fn_, mut sn, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            hash = node_hash(sibling, &hash);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && hash == *root
}

/// Returns the proof that the tree of the first `old` leaves is a beginning of this one (RFC 6962, 2.1.2).
pub fn consistency_proof(leaves: &[Hash], old: u64) -> Option<Vec<Hash>> {
    let old = usize::try_from(old)
        .ok()
        .filter(|old| *old > 0 && *old <= leaves.len())?;
    Some(subproof(leaves, old, true))
}

fn subproof(leaves: &[Hash], old: usize, whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let k = usize::try_from(split(leaves.len() as u64)).unwrap_or(usize::MAX);
    let (left, right) = leaves.split_at(k);
    if old <= k {
        let mut proof = subproof(left, old, whole);
        proof.push(root(right));
        proof
    } else {
        let mut proof = subproof(right, old - k, false);
        proof.push(root(left));
        proof
    }
}

/// Returns whether `proof` shows that the tree (`old`, `old_root`) is a beginning of (`new`, `new_root`)
/// (RFC 9162, 2.1.4.2). Sizes begin at 1: everything extends the empty tree.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    let mut path = proof.iter();
    let first = if old.is_power_of_two() {
        Some(old_root)
    } else {
        path.next()
    };
    let Some(first) = first else {
        return false;
    };
    let shift = (old - 1).trailing_ones();
    let (mut fn_, mut sn) = ((old - 1) >> shift, (new - 1) >> shift);
    let (mut from_old, mut from_new) = (*first, *first);
    for sibling in path {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && from_old == *old_root && from_new == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u32) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn nodes_are_hashed_like_the_definition_says() {
        let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
        assert_eq!(node_hash(&a, &b), sha256(&[&[1][..], &a, &b].concat()));
    }

    #[test]
    fn growing_one_by_one_or_in_runs_gives_the_same_root() {
        for n in [0u32, 1, 2, 3, 7, 8, 9, 255, 256, 257, 600] {
            let all = leaves(n);
            let mut one_by_one = CompactRange::new();
            all.iter().for_each(|leaf| one_by_one.push(*leaf));
            for step in [1, 3, 64, 100] {
                let mut in_runs = CompactRange::new();
                all.chunks(step)
                    .for_each(|run| in_runs.extend(&mut run.to_vec()));
                assert_eq!(in_runs, one_by_one, "{n} leaves in runs of {step}");
            }
            assert_eq!(one_by_one.size(), u64::from(n));
        }
        assert_eq!(root(&[]), empty_root());
    }

    #[test]
    fn inclusion_holds_for_the_leaf_and_for_nothing_else() {
        for n in 1..40u32 {
            let all = leaves(n);
            let top = root(&all);
            for i in 0..u64::from(n) {
                let mut proof = inclusion_proof(&all, i).unwrap();
                let leaf = &all[i as usize];
                let size = u64::from(n);
                assert!(verify_inclusion(i, size, leaf, &proof, &top));
                assert!(!verify_inclusion(i + 1, size, leaf, &proof, &top));
                assert!(!verify_inclusion(i, size, &[0; 32], &proof, &top));
                proof.push([0; 32]);
                assert!(
                    !verify_inclusion(i, size, leaf, &proof, &top),
                    "a longer proof must fail"
                );
                proof.truncate(proof.len() - 1);
                if proof.pop().is_some() {
                    assert!(
                        !verify_inclusion(i, size, leaf, &proof, &top),
                        "a shorter proof must fail"
                    );
                }
            }
            assert!(inclusion_proof(&all, u64::from(n)).is_none());
        }
    }

    #[test]
    fn consistency_holds_for_a_beginning_and_for_nothing_else() {
        let all = leaves(40);
        for new in 1..=40usize {
            for old in 1..=new {
                let (a, b) = (root(&all[..old]), root(&all[..new]));
                let mut proof = consistency_proof(&all[..new], old as u64).unwrap();
                let holds = |a: &Hash, b: &Hash, proof: &[Hash]| {
                    verify_consistency(old as u64, a, new as u64, b, proof)
                };
                assert!(holds(&a, &b, &proof), "{old} {new}");
                assert!(!holds(&[9; 32], &b, &proof));
                assert!(!holds(&a, &[9; 32], &proof));
                proof.push([0; 32]);
                assert!(!holds(&a, &b, &proof));
            }
        }
        assert!(consistency_proof(&all, 0).is_none());
        assert!(consistency_proof(&all, 41).is_none());
    }
}
