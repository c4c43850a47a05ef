//! Compressed streams, detected by their magic bytes.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dram_image::ArchiveLimits;

/// The memory limit of the xz decoder in KiB, as much as `xz -9` needs. A stream may ask for 4 GiB.
const XZ_MEMORY_LIMIT_KIB: u32 = 80 << 10;

/// The compression format of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionFormat {
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

impl CompressionFormat {
    /// Detects the format of a stream that starts with `bytes`.
    pub fn detect(bytes: &[u8]) -> CompressionFormat {
        match bytes {
            [0x1f, 0x8b, ..] => CompressionFormat::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => CompressionFormat::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => CompressionFormat::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => CompressionFormat::Bzip2,
            _ => CompressionFormat::None,
        }
    }
}

/// A writer that compresses with zstd. The same input always gives the same bytes.
pub struct ZstdWriter<W: Write> {
    inner: zstd::stream::write::Encoder<'static, W>,
}

impl<W: Write> ZstdWriter<W> {
    /// Starts a stream that is written to `out`, with a zstd `level` of 1 to 22, or 0 for the default.
    ///
    /// # Errors
    /// When `level` is invalid.
    pub fn new(out: W, level: i32) -> io::Result<ZstdWriter<W>> {
        Ok(ZstdWriter { inner: zstd::stream::write::Encoder::new(out, level)? })
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(self) -> io::Result<W> {
        self.inner.finish()
    }
}

impl<W: Write> Write for ZstdWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> std::fmt::Debug for ZstdWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZstdWriter").finish_non_exhaustive()
    }
}

/// A reader of the decompressed bytes of a stream in any supported format, with limits on its expansion.
pub struct DecompressingReader {
    inner: Box<dyn Read>,
    compression: CompressionFormat,
    compressed_bytes: Arc<AtomicU64>,
    plain_bytes: u64,
    limits: ArchiveLimits,
}

/// A reader that counts the bytes that pass through it.
struct CountingReader {
    inner: Box<dyn Read>,
    count: Arc<AtomicU64>,
}

impl Read for CountingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.count.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

impl DecompressingReader {
    /// Detects the format of `stream` and selects the decoder. Reading more than `limits` allow is an error that
    /// contains a [`dram_image::LimitExceeded`].
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn new(stream: Box<dyn Read>, limits: &ArchiveLimits) -> io::Result<DecompressingReader> {
        let packed = Arc::new(AtomicU64::new(0));
        let stream = CountingReader { inner: stream, count: Arc::clone(&packed) };
        let mut stream = BufReader::with_capacity(128 << 10, stream);
        let compression = CompressionFormat::detect(stream.fill_buf()?);
        let inner: Box<dyn Read> = match compression {
            CompressionFormat::None => Box::new(stream),
            CompressionFormat::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
            CompressionFormat::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
            CompressionFormat::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(stream, true, XZ_MEMORY_LIMIT_KIB)),
            CompressionFormat::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
        };
        Ok(DecompressingReader { inner, compression, compressed_bytes: packed, plain_bytes: 0, limits: *limits })
    }
}

impl Read for DecompressingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.plain_bytes += got as u64;
        let packed = self.compressed_bytes.load(Ordering::Relaxed);
        self.limits.check_expansion(packed, self.plain_bytes).map_err(io::Error::other)?;
        Ok(got)
    }
}

impl std::fmt::Debug for DecompressingReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecompressingReader").field("compression", &self.compression).finish_non_exhaustive()
    }
}
