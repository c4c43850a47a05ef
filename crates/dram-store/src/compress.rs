//! Compressed streams, detected by their magic bytes.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dram_image::Limits;

/// The memory limit of the xz decoder in KiB, as much as `xz -9` needs. A stream may ask for 4 GiB.
const XZ_MEMORY: u32 = 80 << 10;

/// The compression format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Uncompressed.
    None,
    /// gzip (RFC 1952), one member or several.
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// The xz container.
    Xz,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// Detects the format of a stream that starts with `bytes`.
    pub fn of(bytes: &[u8]) -> Compression {
        match bytes {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
            _ => Compression::None,
        }
    }
}

/// A writer that compresses with zstd. The same input always gives the same bytes.
pub struct Zstd<W: Write> {
    inner: zstd::stream::write::Encoder<'static, W>,
}

impl<W: Write> Zstd<W> {
    /// Starts a stream that is written to `out`, with a zstd `level` of 1 to 22, or 0 for the default.
    ///
    /// # Errors
    /// When `level` is invalid.
    pub fn new(out: W, level: i32) -> io::Result<Zstd<W>> {
        Ok(Zstd { inner: zstd::stream::write::Encoder::new(out, level)? })
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(self) -> io::Result<W> {
        self.inner.finish()
    }
}

impl<W: Write> Write for Zstd<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> std::fmt::Debug for Zstd<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

/// A reader of the decompressed bytes of a stream in any supported format, with limits on its expansion.
pub struct Unpacked {
    inner: Box<dyn Read>,
    compression: Compression,
    packed: Arc<AtomicU64>,
    plain: u64,
    limits: Limits,
}

/// A reader that counts the bytes that pass through it.
struct Count {
    inner: Box<dyn Read>,
    count: Arc<AtomicU64>,
}

impl Read for Count {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.count.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

impl Unpacked {
    /// Detects the format of `stream` and selects the decoder. Reading more than `limits` allow is an error that
    /// contains a [`dram_image::Exceeded`].
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn new(stream: Box<dyn Read>, limits: &Limits) -> io::Result<Unpacked> {
        let packed = Arc::new(AtomicU64::new(0));
        let stream = Count { inner: stream, count: Arc::clone(&packed) };
        let mut stream = BufReader::with_capacity(128 << 10, stream);
        let compression = Compression::of(stream.fill_buf()?);
        let inner: Box<dyn Read> = match compression {
            Compression::None => Box::new(stream),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
            Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(stream, true, XZ_MEMORY)),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
        };
        Ok(Unpacked { inner, compression, packed, plain: 0, limits: *limits })
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.plain += got as u64;
        let packed = self.packed.load(Ordering::Relaxed);
        self.limits.check_expansion(packed, self.plain).map_err(io::Error::other)?;
        Ok(got)
    }
}

impl std::fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacked").field("compression", &self.compression).finish_non_exhaustive()
    }
}
