//! A tar becomes a compressed blob, on all processors, with the same bytes for any number of them.
//!
//! The tar is cut into pieces of 1 MiB; each becomes one gzip member (RFC 1952, 2.2: a file is a series of members).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use dram_image::{Descriptor, Digest, Hasher, MediaType};
use dram_store::{BlobWriter, Packed, Store, StoreError};
use libdeflater::{CompressionLvl, Compressor};

/// Bytes of the tar in one gzip member.
const PIECE: usize = 1 << 20;
/// libdeflate's level: 4 % larger than its sixth, a third faster.
const LEVEL: i32 = 3;

type Numbered = (u64, Vec<u8>);

/// Compresses what `produce` writes into a blob of `store`. Returns the blob and the digest of what was written.
///
/// # Errors
/// Whatever `produce` returns, or the disk's refusal.
pub(crate) fn compress(
    store: &Store,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), StoreError> + Send,
) -> Result<Packed, StoreError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (pieces, queue) = mpsc::sync_channel::<Numbered>(threads);
    let (members, results) = mpsc::sync_channel::<Numbered>(threads * 2);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut cutter = Cutter { pieces, piece: Vec::with_capacity(PIECE), number: 0, hasher: Hasher::new() };
            produce(&mut cutter)?;
            Ok::<(Digest, u64), StoreError>(cutter.finish())
        });
        for _ in 0..threads {
            let members = members.clone();
            let queue = &queue;
            scope.spawn(move || compress_pieces(queue, &members));
        }
        drop(members);
        let mut writer = store.blobs().writer()?;
        let written = write_in_order(&results, &mut writer);
        // When writing failed, the threads find their channels closed and end.
        drop(results);
        let plain = producer.join().expect("a panic in the producer is a bug");
        written.map_err(|source| StoreError::Io { verb: "write", path: writer.path().to_owned(), source })?;
        let (diff_id, plain_size) = plain?;
        store.layers().remember_size(&diff_id, plain_size)?;
        let (digest, size) = writer.commit()?;
        Ok(Packed { diff_id, blob: Descriptor::new(MediaType::LAYER_GZIP, digest, size) })
    })
}

fn compress_pieces(queue: &Mutex<mpsc::Receiver<Numbered>>, members: &mpsc::SyncSender<Numbered>) {
    let level = CompressionLvl::new(LEVEL).expect("libdeflate has this level");
    let mut compressor = Compressor::new(level);
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, piece)) = next else { return };
        let mut member = vec![0; compressor.gzip_compress_bound(piece.len())];
        let length = compressor.gzip_compress(&piece, &mut member).expect("the bound is large enough");
        member.truncate(length);
        if members.send((number, member)).is_err() {
            return;
        }
    }
}

fn write_in_order(results: &mpsc::Receiver<Numbered>, writer: &mut BlobWriter) -> io::Result<()> {
    let mut early: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut next = 0;
    for (number, member) in results {
        early.insert(number, member);
        while let Some(member) = early.remove(&next) {
            writer.write_all(&member)?;
            next += 1;
        }
    }
    Ok(())
}

/// Hashes what it takes and hands it on in pieces.
struct Cutter {
    pieces: mpsc::SyncSender<Numbered>,
    piece: Vec<u8>,
    number: u64,
    hasher: Hasher,
}

impl Cutter {
    fn hand_on(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.pieces.send((self.number, piece));
        self.number += 1;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn finish(mut self) -> (Digest, u64) {
        if !self.piece.is_empty() {
            // Fails only when the collector gave up, and its error is the one to report.
            let _ = self.hand_on();
        }
        let length = self.hasher.length();
        (self.hasher.finish(), length)
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        self.hasher.update(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.hand_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
