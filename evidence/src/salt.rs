//! Salts, and the tree over salted records.
//!
//! A proof discloses the leaf hash of the neighbour, and log lines are guessable: each record is blinded by a salt
//! of its own, derived from the bag's key (specification, part 5).

use crate::encoding::Hash;
use crate::merkle::{Block, CompactRange, hash_padded};
use aes::Aes256;
use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use sha2::{Digest, Sha256};

/// How many salts are made at a time.
const SALTS: usize = 128;
/// How many leaves are folded at a time.
const BATCH: usize = 1024;
/// Records up to this many blocks are padded by hand; longer ones are streamed.
const SCRATCH_BLOCKS: usize = 64;
const PREFIX: usize = 17;

type AesBlock = aes::cipher::generic_array::GenericArray<u8, aes::cipher::typenum::U16>;

/// Makes `salt_i = AES-256-ECB(key, i)` for i = 0, 1, 2 …
pub struct Salter {
    cipher: Aes256,
    next: u64,
    ready: Vec<AesBlock>,
}

impl Salter {
    /// Begins at leaf 0.
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            cipher: Aes256::new(key.into()),
            next: 0,
            ready: Vec::with_capacity(SALTS),
        }
    }

    /// Returns the salt of one leaf, wherever the sequence stands.
    pub fn salt(&self, index: u64) -> [u8; 16] {
        let mut block = Self::counter(index);
        self.cipher.encrypt_block(&mut block);
        block.into()
    }

    fn counter(index: u64) -> AesBlock {
        AesBlock::from(u128::from(index).to_be_bytes())
    }

    /// Leaves out salts that were made elsewhere.
    #[cfg(feature = "parallel")]
    fn skip(&mut self, count: u64) {
        self.next += count;
        self.ready.clear();
    }

    fn next_salt(&mut self) -> [u8; 16] {
        let at = (self.next % SALTS as u64) as usize;
        if at == 0 || self.ready.is_empty() {
            let first = self.next - at as u64;
            self.ready.clear();
            self.ready
                .extend((0..SALTS as u64).map(|i| Self::counter(first + i)));
            self.cipher.encrypt_blocks(&mut self.ready);
        }
        self.next += 1;
        self.ready[at].into()
    }
}

/// Hashes salted entries on blocks padded by hand.
struct LeafHasher {
    blocks: Vec<Block>,
}

impl LeafHasher {
    fn new() -> Self {
        Self {
            blocks: vec![Block::default(); SCRATCH_BLOCKS],
        }
    }

    /// Returns `H(0x00 ‖ salt ‖ record)`.
    fn leaf(&mut self, salt: &[u8; 16], record: &[u8]) -> Hash {
        let total = PREFIX + record.len();
        let count = (total + 9).div_ceil(64);
        if count > SCRATCH_BLOCKS {
            return Sha256::new()
                .chain_update([0])
                .chain_update(salt)
                .chain_update(record)
                .finalize()
                .into();
        }
        let blocks = &mut self.blocks[..count];
        let (head, tail) = record.split_at(record.len().min(64 - PREFIX));
        blocks[0][0] = 0;
        blocks[0][1..PREFIX].copy_from_slice(salt);
        blocks[0][PREFIX..PREFIX + head.len()].copy_from_slice(head);
        for (block, piece) in blocks[1..].iter_mut().zip(tail.chunks(64)) {
            block[..piece.len()].copy_from_slice(piece);
        }
        pad(blocks, total);
        hash_padded(blocks)
    }
}

/// Pads a message of `total` bytes that stands in `blocks` (FIPS 180-4, 5.1.1).
fn pad(blocks: &mut [Block], total: usize) {
    let (at, offset) = (total / 64, total % 64);
    blocks[at][offset] = 0x80;
    blocks[at][offset + 1..].fill(0);
    let last = blocks.len() - 1;
    if last > at {
        blocks[last].fill(0);
    }
    blocks[last][56..].copy_from_slice(&(total as u64 * 8).to_be_bytes());
}

/// The tree over the records of a bag, grown in constant memory.
pub struct SaltedTree {
    salter: Salter,
    hasher: LeafHasher,
    leaves: Vec<Hash>,
    tree: CompactRange,
}

impl SaltedTree {
    /// Returns the empty tree under a bag's key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            salter: Salter::new(key),
            hasher: LeafHasher::new(),
            leaves: Vec::with_capacity(BATCH),
            tree: CompactRange::new(),
        }
    }

    /// Appends one record and returns the size of the tree with it.
    pub fn push(&mut self, record: &[u8]) -> u64 {
        let salt = self.salter.next_salt();
        self.leaves.push(self.hasher.leaf(&salt, record));
        if self.salter.next.is_multiple_of(BATCH as u64) {
            self.tree.extend(&mut self.leaves);
        }
        self.salter.next
    }

    /// Appends the records of a block: the first begins at `from`, each ends where `ends` says and the next begins there.
    ///
    /// `alongside` is other work on the same bytes, done once on this thread. With the feature `parallel` other threads
    /// hash the records meanwhile; that changes the speed and never the tree.
    pub fn push_records(
        &mut self,
        block: &[u8],
        from: usize,
        ends: &[u32],
        alongside: impl FnOnce(),
    ) {
        #[cfg(feature = "parallel")]
        if parallel::is_worth_it(from, ends) {
            return parallel::push_records(self, block, from, ends, alongside);
        }
        alongside();
        let mut start = from;
        for end in ends {
            let end = *end as usize;
            self.push(&block[start..end]);
            start = end;
        }
    }

    /// Returns how many records it has.
    pub fn size(&self) -> u64 {
        self.salter.next
    }

    /// Returns the root of the tree as it stands.
    pub fn root(&self) -> Hash {
        let mut tree = self.tree.clone();
        tree.extend(&mut self.leaves.clone());
        tree.root()
    }
}

#[cfg(feature = "parallel")]
mod parallel;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{base64, hex, unhex};
    use crate::merkle;

    fn key() -> [u8; 32] {
        std::array::from_fn(|i| i as u8)
    }

    /// The vector of the specification, part 5.
    #[test]
    fn the_vector_of_the_specification_holds() {
        let salter = Salter::new(&key());
        assert_eq!(hex(&salter.salt(0)), "f29000b62a499fd0a9f39a6add2e7780");
        assert_eq!(hex(&salter.salt(1)), "f05d76ae4ab99fe5a6f69b3148c2363d");
        assert_eq!(hex(&salter.salt(2)), "0ebcb5deb52c83bd08a8a935182c9199");
        let mut hasher = LeafHasher::new();
        let leaf_0 = hasher.leaf(&salter.salt(0), b"alpha\n");
        assert_eq!(
            hex(&leaf_0),
            "3412329d23801d3803896ea7b694bfb11c3e9a8603a3fe0b3bc52521a54546a5"
        );
        let leaf_2 = hasher.leaf(&salter.salt(2), b"gamma");
        assert_eq!(
            Some(leaf_2),
            unhex("8733cade96449ca83e940d3341e22268f1d8a39978224336abad6df338e8c023")
        );
        let mut tree = SaltedTree::new(&key());
        for record in [&b"alpha\n"[..], b"beta\n", b"gamma"] {
            tree.push(record);
        }
        assert_eq!(
            base64(&tree.root()),
            "MavrW9OQIN0NkrcrPT5zFiSoRC6Kgs3KfwMz1bE/gds="
        );
    }

    #[test]
    fn padding_by_hand_agrees_with_streaming_at_every_length() {
        let salter = Salter::new(&key());
        let mut hasher = LeafHasher::new();
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * 7) as u8).collect();
        for len in (0..300).chain(3990..4200) {
            let salt = salter.salt(len as u64);
            let entry = [&salt[..], &bytes[..len]].concat();
            assert_eq!(
                hasher.leaf(&salt, &bytes[..len]),
                merkle::leaf_hash(&entry),
                "length {len}"
            );
        }
    }

    /// With the feature `parallel` this is the promise that threads change nothing.
    #[test]
    fn whole_blocks_give_the_tree_of_single_records() {
        let block: Vec<u8> = (0..2_200_000u32).map(|i| (i % 251) as u8).collect();
        for length in [7usize, 150, 999, 4_096, 100_000, 1_048_576] {
            let ends: Vec<u32> = (0..block.len())
                .step_by(length)
                .skip(1)
                .map(|end| end as u32)
                .collect();
            let (mut whole, mut single) = (SaltedTree::new(&key()), SaltedTree::new(&key()));
            let mut start = 0;
            for (i, run) in ends.chunks(ends.len().div_ceil(2)).enumerate() {
                let mut alongside = 0;
                whole.push_records(&block, start, run, || alongside += 1);
                assert_eq!(alongside, 1, "run {i}");
                for end in run {
                    single.push(&block[start..*end as usize]);
                    start = *end as usize;
                }
                assert_eq!(
                    (whole.size(), whole.root()),
                    (single.size(), single.root()),
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn batches_of_salts_and_leaves_change_nothing() {
        let mut tree = SaltedTree::new(&key());
        let salter = Salter::new(&key());
        let mut plain = CompactRange::new();
        for i in 0..2500u64 {
            tree.push(&i.to_be_bytes());
            plain.push(merkle::leaf_hash(
                &[&salter.salt(i)[..], &i.to_be_bytes()].concat(),
            ));
            if i % 411 == 0 {
                assert_eq!(tree.root(), plain.root(), "after {i}");
            }
        }
        assert_eq!(tree.root(), plain.root());
    }
}
