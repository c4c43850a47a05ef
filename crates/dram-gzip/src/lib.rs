//! A stream becomes gzip, on all processors, with the same bytes for any number of them.
//!
//! The stream is cut into pieces of at most 1 MiB; each becomes one gzip member (RFC 1952, 2.2: a file is a series of
//! members). Layers of images and archives of releases are written so.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};

/// Bytes of the stream in one gzip member.
const PIECE: usize = 1 << 20;

type Numbered = (u64, Vec<u8>);

/// Members that were made before, by the digest of what is in them.
pub trait Cache: Sync {
    /// The member with that content, if it is known.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Keeps a member; that it cannot be kept is no error.
    fn put(&self, key: &str, member: &[u8]);
}

/// Why compressing failed.
#[derive(Debug)]
pub enum Failed<E> {
    /// What was to be compressed could not be produced.
    Produce(E),
    /// What was compressed could not be written.
    Write(io::Error),
}

/// Compresses what `produce` writes into `out`, with libdeflate's `level` (1 to 12). Returns what `produce` returned.
/// Members that `cache` has are not made again.
///
/// Memory is bounded: a few pieces for each processor.
///
/// # Errors
/// Whatever `produce` returns, or the refusal of `out`.
pub fn compress<T: Send, E: Send>(
    level: i32,
    cache: Option<&dyn Cache>,
    out: &mut dyn Write,
    produce: impl FnOnce(&mut Stream) -> Result<T, E> + Send,
) -> Result<T, Failed<E>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (pieces, queue) = mpsc::sync_channel::<Numbered>(threads);
    let (members, results) = mpsc::sync_channel::<Numbered>(threads * 2);
    // Owned by the workers alone: when they give up it is gone, and the producer finds its channel closed.
    let queue = Arc::new(Mutex::new(queue));
    thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut stream = Stream { pieces, piece: Vec::with_capacity(PIECE), number: 0 };
            let made = produce(&mut stream)?;
            // Fails only when the collector gave up, and its error is the one to report.
            let _ = stream.cut();
            Ok(made)
        });
        for _ in 0..threads {
            let members = members.clone();
            let queue = Arc::clone(&queue);
            scope.spawn(move || compress_pieces(level, cache, &queue, &members));
        }
        drop((members, queue));
        let written = write_in_order(&results, out);
        // When writing failed, the threads find their channels closed and end.
        drop(results);
        let made = producer.join().expect("a panic in the producer is a bug");
        written.map_err(Failed::Write)?;
        made.map_err(Failed::Produce)
    })
}

/// Compresses what `produce` writes into `out` as one member. Some readers know no others: `erl_tar` takes the first
/// member for the whole of an archive. It takes one processor, and memory for the whole stream.
///
/// # Errors
/// Whatever `produce` returns, or the refusal of `out`.
pub fn compress_as_one<T: Send, E: Send>(
    level: i32,
    out: &mut dyn Write,
    produce: impl FnOnce(&mut Stream) -> Result<T, E> + Send,
) -> Result<T, Failed<E>> {
    let (pieces, queue) = mpsc::sync_channel::<Numbered>(1);
    let (made, whole) = thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut stream = Stream { pieces, piece: Vec::with_capacity(PIECE), number: 0 };
            let made = produce(&mut stream)?;
            let _ = stream.cut();
            Ok(made)
        });
        let whole = queue.into_iter().map(|(_, piece)| piece).collect::<Vec<_>>().concat();
        (producer.join().expect("a panic in the producer is a bug"), whole)
    });
    let made = made.map_err(Failed::Produce)?;
    let mut compressor = Compressor::new(CompressionLvl::new(level).expect("callers give a level that libdeflate has"));
    let mut member = vec![0; compressor.gzip_compress_bound(whole.len())];
    let length = compressor.gzip_compress(&whole, &mut member).expect("the bound is large enough");
    out.write_all(&member[..length]).map_err(Failed::Write)?;
    Ok(made)
}

fn compress_pieces(
    level: i32,
    cache: Option<&dyn Cache>,
    queue: &Mutex<mpsc::Receiver<Numbered>>,
    members: &mpsc::SyncSender<Numbered>,
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

fn write_in_order(results: &mpsc::Receiver<Numbered>, out: &mut dyn Write) -> io::Result<()> {
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

/// Takes the stream and hands it on in pieces.
#[derive(Debug)]
pub struct Stream {
    pieces: mpsc::SyncSender<Numbered>,
    piece: Vec<u8>,
    number: u64,
}

impl Stream {
    /// Ends the piece here: what follows is compressed apart from what came before.
    ///
    /// # Errors
    /// When nobody takes the pieces any more.
    pub fn cut(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.pieces.send((self.number, piece));
        self.number += 1;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.cut()?;
        }
        Ok(taken)
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
    fn a_stream_of_many_pieces_comes_back_whole() {
        let plain: Vec<u8> = (0..5_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).take(3 * PIECE + 17).collect();
        let mut packed = Vec::new();
        let made = compress(1, None, &mut packed, |out| out.write_all(&plain).map(|()| "made"));
        assert!(matches!(made, Ok("made")));
        let mut back = Vec::new();
        flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut back).expect("it is gzip");
        assert!(back == plain);
    }

    #[test]
    fn one_member_holds_all_of_it() {
        let plain: Vec<u8> = (0..3 * PIECE + 17).map(|n| (n / 7) as u8).collect();
        let mut packed = Vec::new();
        let made = compress_as_one(6, &mut packed, |out| {
            out.write_all(&plain[..100])?;
            out.cut()?;
            out.write_all(&plain[100..])
        });
        assert!(made.is_ok());
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).expect("it is gzip");
        assert!(back == plain);
    }

    #[test]
    fn a_member_that_is_known_is_not_made_again() {
        #[derive(Default)]
        struct Kept(Mutex<BTreeMap<String, Vec<u8>>>, AtomicUsize);
        impl Cache for Kept {
            fn get(&self, key: &str) -> Option<Vec<u8>> {
                self.0.lock().unwrap().get(key).cloned()
            }
            fn put(&self, key: &str, member: &[u8]) {
                self.1.fetch_add(1, Ordering::Relaxed);
                self.0.lock().unwrap().insert(key.to_owned(), member.to_vec());
            }
        }
        let kept = Kept::default();
        let pack = |second: &[u8]| {
            let mut packed = Vec::new();
            let made = compress(6, Some(&kept), &mut packed, |out| {
                out.write_all(b"first")?;
                out.cut()?;
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
    fn a_full_disk_and_a_failed_producer_are_told_apart() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let big = vec![7; 40 * PIECE];
        assert!(matches!(compress(1, None, &mut Full, |out| out.write_all(&big)), Err(Failed::Write(_))));
        let failed = compress(1, None, &mut Vec::new(), |_| Err::<(), _>("nothing to say"));
        assert!(matches!(failed, Err(Failed::Produce("nothing to say"))));
    }
}
