//! Patches: what leads from one file to a later one, a tenth of its size or less for programs.
//!
//! In: the old file, and the new one or the patch. Out: the patch, or the new file. The matching is that of bsdiff (Colin Percival, "Naive
//! differences of executable code"); what it finds is in three streams, each compressed with Zstandard (RFC 8878), because each is of
//! another kind. Whoever applies a patch verifies the hash of what comes out: here, only what does not fit is an error.
//!
//! The file, with numbers in little-endian order: [`MAGIC`]; the lengths of the first two streams, and that of the new file, each in 8
//! bytes; then the streams.
//!
//! 1. Steps, each of three numbers in base 128 (LEB128): how far to move in the old file (from where the step before has ended; zigzag),
//!    how many bytes to take from there, how many new ones follow.
//! 2. What is added to each byte that is taken, modulo 256.
//! 3. The new bytes.
//!
//! Memory to apply one: three windows of Zstandard, at most 4 MiB each, and some buffers, however large the files are.

use std::cell::RefCell;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};

use bidiff::{DiffParams, Match};
use zstd::{Decoder, Encoder};

/// How a patch begins.
pub const MAGIC: [u8; 16] = *b"steward patch 1\n";
/// No patch is made for a larger file, in bytes: seven times as much memory is needed for that.
pub const MAXIMUM_MADE: u64 = 256 * 1024 * 1024;
/// A patch that is not below this share of the new file, in percent, saves too little.
const WORTH: u64 = 60;
/// The largest window of a stream, as the power of two.
const WINDOW: u32 = 22;
/// Zstandard's level: patches are made once and downloaded by a fleet.
const LEVEL: i32 = 19;
/// How much of a file says whether it is compressed, in bytes.
const SAMPLE: usize = 1024 * 1024;
/// The bytes before the streams.
const HEADER: u64 = 40;
/// How much is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Why there is no new file.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch is none, or damaged, or for another old file.
    #[error("the patch is damaged or not for this file: {0}")]
    Malformed(&'static str),
    /// The new file would have another length.
    #[error("the patch makes a file of {made} bytes, not of {promised}")]
    Length {
        /// What it says.
        made: u64,
        /// What was to come out.
        promised: u64,
    },
    /// One of the three files cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whether a patch of this length saves enough of a download.
#[must_use]
pub fn is_worth(patch: u64, new: u64) -> bool {
    patch < new / 100 * WORTH
}

/// Whether a file is compressed, by a piece from its middle: patches of such files save nothing.
#[must_use]
pub fn is_compressed(file: &[u8]) -> bool {
    let middle = &file[file.len() / 2..];
    let sample = &middle[..middle.len().min(SAMPLE)];
    let compressed = zstd::bulk::compress(sample, 1).map_or(0, |compressed| compressed.len());
    compressed > sample.len() / 100 * 97
}

/// Makes the patch from one file to another one. It takes some seconds for each 10 MB, and memory of seven times the size
/// of such a file.
///
/// # Errors
/// A file is too large, or the old one is empty.
pub fn make(old: &[u8], new: &[u8]) -> Result<Vec<u8>, PatchError> {
    let is_too_large = |file: &[u8]| u64::try_from(file.len()).is_ok_and(|length| length > MAXIMUM_MADE);
    if old.is_empty() || is_too_large(old) || is_too_large(new) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "no patch is made between such files").into());
    }
    let (mut steps, mut added, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    let mut position = 0_usize;
    let write = |found: Match| -> io::Result<()> {
        let Match { add_old_start, add_new_start, add_length, copy_end } = found;
        let taken_until = add_new_start + add_length;
        if copy_end == add_new_start {
            return Ok(());
        }
        let moved = signed(add_old_start)? - signed(position)?;
        let length = |length: usize| u64::try_from(length).map_err(io::Error::other);
        for number in [zigzag(moved), length(add_length)?, length(copy_end - taken_until)?] {
            write_number(&mut steps, number);
        }
        let (from, to) = (&old[add_old_start..add_old_start + add_length], &new[add_new_start..taken_until]);
        added.extend(from.iter().zip(to).map(|(from, to)| to.wrapping_sub(*from)));
        fresh.extend(&new[taken_until..copy_end]);
        position = add_old_start + add_length;
        Ok(())
    };
    bidiff::diff(old, new, &DiffParams::default(), write)?;
    let (steps, added, fresh) = (compress(&steps)?, compress(&added)?, compress(&fresh)?);
    let mut patch = MAGIC.to_vec();
    for length in [steps.len(), added.len(), new.len()] {
        patch.extend(u64::try_from(length).map_err(io::Error::other)?.to_le_bytes());
    }
    for stream in [steps, added, fresh] {
        patch.extend(stream);
    }
    Ok(patch)
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = Encoder::new(Vec::new(), LEVEL)?;
    stream.window_log(WINDOW)?;
    stream.set_pledged_src_size(u64::try_from(bytes.len()).ok())?;
    stream.write_all(bytes)?;
    stream.finish()
}

/// Writes the new file of a patch. `length`: how long the new file is, in bytes.
///
/// # Errors
/// The patch does not fit, or a file cannot be read or written. Part of the new file may have been written.
pub fn apply(
    old: impl Read + Seek,
    patch: impl Read + Seek,
    mut new: impl Write,
    length: u64,
) -> Result<(), PatchError> {
    let mut old = BufReader::with_capacity(PIECE, old);
    let old_length = old.seek(SeekFrom::End(0))?;
    old.rewind()?;
    let patch = RefCell::new(patch);
    let [mut steps, mut added, mut fresh] = streams(&patch, length)?;
    let (mut position, mut written) = (0_u64, 0_u64);
    let (mut piece, mut differences) = (vec![0; PIECE], vec![0; PIECE]);
    while written < length {
        let moved = from_zigzag(read_number(&mut steps)?);
        let (mut taken, mut copied) = (read_number(&mut steps)?, read_number(&mut steps)?);
        let left = length - written;
        if taken > left || copied > left - taken || taken + copied == 0 {
            return Err(PatchError::Malformed("a step leads beyond the new file"));
        }
        let from = position.checked_add_signed(moved);
        let from = from.filter(|from| from.checked_add(taken).is_some_and(|end| end <= old_length));
        position = from.ok_or(PatchError::Malformed("a step leads out of the old file"))?;
        // Steps are short, and most move by a little.
        old.seek_relative(moved)?;
        position += taken;
        written += taken + copied;
        while taken > 0 {
            let piece = part(&mut piece, taken);
            let differences = &mut differences[..piece.len()];
            old.read_exact(piece)?;
            read(&mut added, differences)?;
            for (byte, difference) in piece.iter_mut().zip(differences) {
                *byte = byte.wrapping_add(*difference);
            }
            new.write_all(piece)?;
            taken -= u64::try_from(piece.len()).unwrap_or(taken);
        }
        while copied > 0 {
            let piece = part(&mut piece, copied);
            read(&mut fresh, piece)?;
            new.write_all(piece)?;
            copied -= u64::try_from(piece.len()).unwrap_or(copied);
        }
    }
    Ok(())
}

/// A stream of a patch.
type Stream<'p, R> = Decoder<'static, BufReader<Section<'p, R>>>;

/// The streams of a patch that makes a file of such a length.
fn streams<R: Read + Seek>(patch: &RefCell<R>, promised: u64) -> Result<[Stream<'_, R>; 3], PatchError> {
    let end = patch.borrow_mut().seek(SeekFrom::End(0))?;
    let mut header = Section { file: patch, position: 0, end };
    let mut magic = [0; MAGIC.len()];
    read(&mut header, &mut magic)?;
    if magic != MAGIC {
        return Err(PatchError::Malformed("it does not begin like one"));
    }
    let mut number = || -> Result<u64, PatchError> {
        let mut bytes = [0; 8];
        read(&mut header, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    };
    let (steps, added, made) = (number()?, number()?, number()?);
    if made != promised {
        return Err(PatchError::Length { made, promised });
    }
    let second = HEADER.checked_add(steps).filter(|start| *start <= end);
    let third = second.and_then(|second| second.checked_add(added)).filter(|start| *start <= end);
    let (Some(second), Some(third)) = (second, third) else {
        return Err(PatchError::Malformed("its streams are longer than it is"));
    };
    let stream = |position: u64, end: u64| -> io::Result<_> {
        let section = Section { file: patch, position, end };
        let mut stream = Decoder::with_buffer(BufReader::with_capacity(PIECE, section))?;
        stream.window_log_max(WINDOW)?;
        Ok(stream)
    };
    Ok([stream(HEADER, second)?, stream(second, third)?, stream(third, end)?])
}

/// Part of a file that is read by several.
struct Section<'p, R> {
    file: &'p RefCell<R>,
    position: u64,
    end: u64,
}

impl<R: Read + Seek> Read for Section<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let buffer = part(buffer, self.end - self.position);
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start(self.position))?;
        let count = file.read(buffer)?;
        self.position += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }
}

/// The beginning of a buffer, with at most so many bytes.
fn part(buffer: &mut [u8], most: u64) -> &mut [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    &mut buffer[..length]
}

/// Fills a buffer from a stream of the patch.
fn read(stream: &mut impl Read, buffer: &mut [u8]) -> Result<(), PatchError> {
    stream.read_exact(buffer).map_err(|error| {
        // What Zstandard does not accept has the kind `Other`.
        if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::Other | ErrorKind::InvalidData) {
            return PatchError::Malformed("one of its streams is damaged or ends early");
        }
        error.into()
    })
}

fn signed(position: usize) -> io::Result<i64> {
    i64::try_from(position).map_err(io::Error::other)
}

#[expect(clippy::cast_sign_loss, reason = "every number has one form")]
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

#[expect(clippy::cast_possible_wrap, reason = "every number has one form")]
fn from_zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn write_number(to: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return to.push(low & 0x7f);
        }
        to.push(low | 0x80);
    }
}

fn read_number(from: &mut impl Read) -> Result<u64, PatchError> {
    let mut number = 0_u64;
    for place in (0..64).step_by(7) {
        let mut byte = [0];
        read(from, &mut byte)?;
        let digit = u64::from(byte[0] & 0x7f);
        if place == 63 && digit > 1 {
            break;
        }
        number |= digit << place;
        if byte[0] & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(PatchError::Malformed("a number is too large"))
}

#[cfg(test)]
mod tests;
