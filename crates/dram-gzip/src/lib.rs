//! Parallel gzip compression, with the same output for any number of threads.
//!
//! The stream is split into pieces of at most 1 MiB; each becomes one gzip member (RFC 1952, 2.2: a file is a series of
//! members). Image layers and release archives are compressed this way.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};

/// The size of the uncompressed content of a gzip member, in bytes.
const MEMBER_INPUT_BYTES: usize = 1 << 20;

type NumberedPiece = (u64, Vec<u8>);

/// A cache of compressed members, keyed by the digest of their content and the level.
pub trait MemberCache: Sync {
    /// Returns the member with this key on a cache hit.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Stores a member. A failure to store it is not an error.
    fn put(&self, key: &str, member: &[u8]);
}

/// An error of compression.
#[derive(Debug)]
pub enum CompressError<E> {
    /// The producer of the stream failed.
    Produce(E),
    /// The output could not be written.
    Write(io::Error),
}

/// Compresses the bytes that `produce` writes into `out`, with libdeflate's `level` (1 to 12). Returns the value of
/// `produce`. Members that are in `cache` are not compressed again.
///
/// Memory is bounded: a few pieces for each thread.
///
/// # Errors
/// Returns the error of `produce`, or of writing to `out`.
pub fn compress<T: Send, E: Send>(
    level: i32,
    cache: Option<&dyn MemberCache>,
    out: &mut dyn Write,
    produce: impl FnOnce(&mut GzipWriter) -> Result<T, E> + Send,
) -> Result<T, CompressError<E>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (pieces, queue) = mpsc::sync_channel::<NumberedPiece>(threads);
    let (members, results) = mpsc::sync_channel::<NumberedPiece>(threads * 2);
    // Only the workers own the queue: when all have ended it is dropped, and the producer finds its channel closed.
    let queue = Arc::new(Mutex::new(queue));
    thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut stream = GzipWriter { pieces, piece: Vec::with_capacity(MEMBER_INPUT_BYTES), number: 0 };
            let made = produce(&mut stream)?;
            // This fails only when the collector ended early; its error is the one to report.
            let _ = stream.end_piece();
            Ok(made)
        });
        for _ in 0..threads {
            let members = members.clone();
            let queue = Arc::clone(&queue);
            scope.spawn(move || compress_pieces(level, cache, &queue, &members));
        }
        drop((members, queue));
        let written = write_in_order(&results, out);
        // After a write error, the threads find their channels closed and end.
        drop(results);
        let made = producer.join().expect("a panic in the producer is a bug");
        written.map_err(CompressError::Write)?;
        made.map_err(CompressError::Produce)
    })
}

/// Compresses the bytes that `produce` writes into `out` as a single member. Some readers know no others: `erl_tar`
/// reads only the first member of an archive. It uses one thread, and memory for the whole stream.
///
/// # Errors
/// Returns the error of `produce`, or of writing to `out`.
pub fn compress_single_member<T: Send, E: Send>(
    level: i32,
    out: &mut dyn Write,
    produce: impl FnOnce(&mut GzipWriter) -> Result<T, E> + Send,
) -> Result<T, CompressError<E>> {
    let (pieces, queue) = mpsc::sync_channel::<NumberedPiece>(1);
    let (made, whole) = thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut stream = GzipWriter { pieces, piece: Vec::with_capacity(MEMBER_INPUT_BYTES), number: 0 };
            let made = produce(&mut stream)?;
            let _ = stream.end_piece();
            Ok(made)
        });
        let whole = queue.into_iter().map(|(_, piece)| piece).collect::<Vec<_>>().concat();
        (producer.join().expect("a panic in the producer is a bug"), whole)
    });
    let made = made.map_err(CompressError::Produce)?;
    let mut compressor = Compressor::new(CompressionLvl::new(level).expect("callers give a level that libdeflate has"));
    let mut member = vec![0; compressor.gzip_compress_bound(whole.len())];
    let length = compressor.gzip_compress(&whole, &mut member).expect("the bound is large enough");
    out.write_all(&member[..length]).map_err(CompressError::Write)?;
    Ok(made)
}

fn compress_pieces(
    level: i32,
    cache: Option<&dyn MemberCache>,
    queue: &Mutex<mpsc::Receiver<NumberedPiece>>,
    members: &mpsc::SyncSender<NumberedPiece>,
) {
    let mut compressor = Compressor::new(CompressionLvl::new(level).expect("callers give a level that libdeflate has"));
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, piece)) = next else { return };
        let key = cache.map(|cache| (cache, format!("{}-{level}", blake3::hash(&piece).to_hex())));
        let known = key.as_ref().and_then(|(cache, key)| cache.get(key));
        let member = known.unwrap_or_else(|| {
            let mut member = vec![0; compressor.gzip_compress_bound(piece.len())];
            let length = compressor.gzip_compress(&piece, &mut member).expect("the bound is large enough");
            member.truncate(length);
            if let Some((cache, key)) = &key {
                cache.put(key, &member);
            }
            member
        });
        if members.send((number, member)).is_err() {
            return;
        }
    }
}

fn write_in_order(results: &mpsc::Receiver<NumberedPiece>, out: &mut dyn Write) -> io::Result<()> {
    let mut early: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut next = 0;
    for (number, member) in results {
        early.insert(number, member);
        while let Some(member) = early.remove(&next) {
            out.write_all(&member)?;
            next += 1;
        }
    }
    Ok(())
}

/// A writer that splits the stream into pieces for the compressing threads.
#[derive(Debug)]
pub struct GzipWriter {
    pieces: mpsc::SyncSender<NumberedPiece>,
    piece: Vec<u8>,
    number: u64,
}

impl GzipWriter {
    /// Ends the current piece, so that the bytes that follow are compressed separately.
    ///
    /// # Errors
    /// Fails when compression has ended early.
    pub fn end_piece(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(MEMBER_INPUT_BYTES));
        let sent = self.pieces.send((self.number, piece));
        self.number += 1;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for GzipWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(MEMBER_INPUT_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() == MEMBER_INPUT_BYTES {
            self.end_piece()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn stream_of_many_pieces_decompresses_equal() {
        let plain: Vec<u8> =
            (0..5_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).take(3 * MEMBER_INPUT_BYTES + 17).collect();
        let mut packed = Vec::new();
        let made = compress(1, None, &mut packed, |out| out.write_all(&plain).map(|()| "made"));
        assert!(matches!(made, Ok("made")));
        let mut back = Vec::new();
        flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut back).expect("it is gzip");
        assert!(back == plain);
    }

    #[test]
    fn single_member_holds_the_whole_stream() {
        let plain: Vec<u8> = (0..3 * MEMBER_INPUT_BYTES + 17).map(|n| (n / 7) as u8).collect();
        let mut packed = Vec::new();
        let made = compress_single_member(6, &mut packed, |out| {
            out.write_all(&plain[..100])?;
            out.end_piece()?;
            out.write_all(&plain[100..])
        });
        assert!(made.is_ok());
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).expect("it is gzip");
        assert!(back == plain);
    }

    #[test]
    fn cached_member_is_not_compressed_again() {
        #[derive(Default)]
        struct RecordingCache(Mutex<BTreeMap<String, Vec<u8>>>, AtomicUsize);
        impl MemberCache for RecordingCache {
            fn get(&self, key: &str) -> Option<Vec<u8>> {
                self.0.lock().unwrap().get(key).cloned()
            }
            fn put(&self, key: &str, member: &[u8]) {
                self.1.fetch_add(1, Ordering::Relaxed);
                self.0.lock().unwrap().insert(key.to_owned(), member.to_vec());
            }
        }
        let kept = RecordingCache::default();
        let pack = |second: &[u8]| {
            let mut packed = Vec::new();
            let made = compress(6, Some(&kept), &mut packed, |out| {
                out.write_all(b"first")?;
                out.end_piece()?;
                out.write_all(second)
            });
            assert!(made.is_ok());
            (packed, kept.1.load(Ordering::Relaxed))
        };
        let (one, made) = pack(b"second");
        assert_eq!(made, 2);
        assert_eq!(pack(b"second"), (one, 2));
        assert_eq!(pack(b"another").1, 3);
    }

    #[test]
    fn write_errors_and_producer_errors_are_distinct() {
        struct FullDisk;
        impl Write for FullDisk {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let big = vec![7; 40 * MEMBER_INPUT_BYTES];
        assert!(matches!(compress(1, None, &mut FullDisk, |out| out.write_all(&big)), Err(CompressError::Write(_))));
        let failed = compress(1, None, &mut Vec::new(), |_| Err::<(), _>("nothing to say"));
        assert!(matches!(failed, Err(CompressError::Produce("nothing to say"))));
    }
}
