//! The chunked coding, one byte at a time between the chunks' data. It moves no bytes; `framing.rs` does.

/// Longest line that starts a chunk, extensions included.
pub(super) const MAX_CHUNK_LINE: usize = 4 * 1024;
/// Longest trailer section.
pub(super) const MAX_TRAILERS: usize = 16 * 1024;

/// Where in a chunked body we are. The number that some carry bounds what may still come before a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Before the first digit of a size.
    SizeStart,
    /// After some digits.
    Size { size: u64, left: usize },
    /// After the size, up to the line's end: white space and extensions.
    Extension { size: u64, left: usize },
    /// Expecting the LF of a size line.
    SizeLf { size: u64 },
    /// This many bytes of data are to come.
    Data { left: u64 },
    /// Expecting the CR after the data.
    DataCr,
    /// Expecting the LF after the data.
    DataLf,
    /// At the start of a line after the last chunk.
    TrailerStart { left: usize },
    /// Inside a trailer.
    Trailer { left: usize },
    /// Expecting the very last LF.
    EndLf,
    /// After the last chunk and the trailers.
    End,
}

// === impl Chunk ===

impl Chunk {
    /// The state after one byte that is not data.
    pub(super) fn step(self, byte: u8) -> Result<Chunk, &'static str> {
        Ok(match self {
            Chunk::SizeStart => {
                let digit = hex(byte).ok_or("a chunk does not start with its size")?;
                Chunk::Size { size: digit, left: MAX_CHUNK_LINE }
            }
            Chunk::Size { size, left } => match (hex(byte), byte) {
                (Some(digit), _) => {
                    let size = size
                        .checked_mul(16)
                        .and_then(|size| size.checked_add(digit))
                        .ok_or("the size of a chunk is not a number we can hold")?;
                    Chunk::Size { size, left: shorter(left)? }
                }
                (None, b'\r') => Chunk::SizeLf { size },
                (None, b';' | b' ' | b'\t') => Chunk::Extension { size, left: shorter(left)? },
                (None, _) => return Err("the size of a chunk is not hexadecimal"),
            },
            Chunk::Extension { size, left } => match byte {
                b'\r' => Chunk::SizeLf { size },
                b'\n' => return Err("the line of a chunk's size does not end with CRLF"),
                _ => Chunk::Extension { size, left: shorter(left)? },
            },
            Chunk::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => Chunk::TrailerStart { left: MAX_TRAILERS },
                (b'\n', left) => Chunk::Data { left },
                _ => return Err("the line of a chunk's size does not end with CRLF"),
            },
            Chunk::DataCr if byte == b'\r' => Chunk::DataLf,
            Chunk::DataLf if byte == b'\n' => Chunk::SizeStart,
            Chunk::DataCr | Chunk::DataLf => return Err("a chunk is longer than its size"),
            Chunk::TrailerStart { left } => match byte {
                b'\r' => Chunk::EndLf,
                _ => Chunk::Trailer { left: shorter(left)? },
            },
            Chunk::Trailer { left } => match byte {
                b'\n' => Chunk::TrailerStart { left: shorter(left)? },
                _ => Chunk::Trailer { left: shorter(left)? },
            },
            Chunk::EndLf if byte == b'\n' => Chunk::End,
            Chunk::EndLf => return Err("the last chunk does not end with CRLF"),
            Chunk::Data { .. } | Chunk::End => self,
        })
    }
}

/// One byte less of a bounded line.
fn shorter(left: usize) -> Result<usize, &'static str> {
    left.checked_sub(1).ok_or("a line of its chunked coding is too long")
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
