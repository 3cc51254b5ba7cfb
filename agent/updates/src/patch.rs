//! Patches: what leads from one file to a later one, a tenth of its size or less for programs.
//!
//! In: the old file, and the new one or the patch. Out: the patch, or the new file. The matching is that of bsdiff (Colin Percival, "Naive
//! differences of executable code"); what it finds is in three streams, each compressed with Zstandard (RFC 8878), because each is of
//! another kind. Whoever applies a patch verifies the hash of what comes out: here, only what does not fit is an error.
//!
//! The file, with numbers in little-endian order: [`MAGIC`]; the lengths of the first two streams, and that of the new file, each in 8
//! bytes; then the streams. One of a program begins with [`MAGIC_WITH_ADDRESSES`], and before its streams says where addresses are.
//!
//! 1. Steps, each of three numbers in base 128 (LEB128): how far to move in the old file (from where the step before has ended; zigzag),
//!    how many bytes to take from there, how many new ones follow.
//! 2. What is added to each byte that is taken, modulo 256. Before that, addresses in it become what is expected in the new file, 64 KiB of
//!    a step at a time.
//! 3. The new bytes.
//!
//! Memory to apply one: three windows of Zstandard, at most 4 MiB each, and some buffers, however large the files are. With addresses, 40
//! bytes more for each step, of which there are at most [`addresses::MAXIMUM_STEPS`]: some thousand in a program of 10 MB.

use std::cell::RefCell;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};

use zstd::Decoder;

use self::addresses::{Expected, Layout};
pub use self::make::{MAXIMUM_MADE, is_compressed, is_worth, make};

/// How a patch begins.
pub const MAGIC: [u8; 16] = *b"steward patch 1\n";
/// How a patch of a program begins.
const MAGIC_WITH_ADDRESSES: [u8; 16] = *b"steward patch 2\n";
/// The largest window of a stream, as the power of two.
const WINDOW: u32 = 22;
/// How much of the old file is read at once, in bytes: a hostile patch jumps about, and each jump costs as much.
const JUMP: usize = 8 * 1024;
/// How much is read at once of all else, in bytes.
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
    let mut old = BufReader::with_capacity(JUMP, old);
    let old_length = old.seek(SeekFrom::End(0))?;
    old.rewind()?;
    let patch = RefCell::new(patch);
    let (mut streams, layout) = Streams::open(&patch, length)?;
    let steps = |from| Steps { from, old_length, length, old: 0, new: 0 };
    let expected = layout.map(|layout| Expected::new(layout, steps(streams.steps()?)));
    let expected = expected.transpose()?;
    let mut position = 0;
    let (mut piece, mut differences) = (vec![0; PIECE], vec![0; PIECE]);
    for step in steps(streams.steps()?) {
        let Step { old: mut from, new: mut to, mut taken, mut copied } = step?;
        // Steps are short, and most move by a little.
        let moved = from.checked_signed_diff(position);
        old.seek_relative(moved.ok_or(PatchError::Malformed("a step leads out of the old file"))?)?;
        position = from + taken;
        while taken > 0 {
            let piece = part(&mut piece, taken);
            let differences = &mut differences[..piece.len()];
            old.read_exact(piece)?;
            read(&mut streams.added, differences)?;
            if let Some(expected) = &expected {
                expected.replace(piece, from, to);
            }
            for (byte, difference) in piece.iter_mut().zip(differences) {
                *byte = byte.wrapping_add(*difference);
            }
            new.write_all(piece)?;
            let done = u64::try_from(piece.len()).unwrap_or(taken);
            (from, to, taken) = (from + done, to + done, taken - done);
        }
        while copied > 0 {
            let piece = part(&mut piece, copied);
            read(&mut streams.fresh, piece)?;
            new.write_all(piece)?;
            copied -= u64::try_from(piece.len()).unwrap_or(copied);
        }
    }
    Ok(())
}

/// A step: where it takes bytes in the old file, where they are in the new one, how many, and how many new ones follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    old: u64,
    new: u64,
    taken: u64,
    copied: u64,
}

/// The steps of a patch, each within both files.
struct Steps<R> {
    from: R,
    old_length: u64,
    length: u64,
    /// Where the last one has ended, in each file.
    old: u64,
    new: u64,
}

impl<R: Read> Steps<R> {
    fn read(&mut self) -> Result<Step, PatchError> {
        let moved = from_zigzag(read_number(&mut self.from)?);
        let (taken, copied) = (read_number(&mut self.from)?, read_number(&mut self.from)?);
        let left = self.length - self.new;
        if taken > left || copied > left - taken || taken + copied == 0 {
            return Err(PatchError::Malformed("a step leads beyond the new file"));
        }
        let old = self.old.checked_add_signed(moved);
        let old = old.filter(|old| old.checked_add(taken).is_some_and(|end| end <= self.old_length));
        let old = old.ok_or(PatchError::Malformed("a step leads out of the old file"))?;
        let step = Step { old, new: self.new, taken, copied };
        (self.old, self.new) = (old + taken, self.new + taken + copied);
        Ok(step)
    }
}

impl<R: Read> Iterator for Steps<R> {
    type Item = Result<Step, PatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = (self.new < self.length).then(|| self.read())?;
        if step.is_err() {
            self.new = self.length;
        }
        Some(step)
    }
}

/// A stream of a patch.
type Stream<'p, R> = Decoder<'static, BufReader<Section<'p, R>>>;

/// The streams of a patch.
struct Streams<'p, R> {
    steps: Section<'p, R>,
    added: Stream<'p, R>,
    fresh: Stream<'p, R>,
}

impl<'p, R: Read + Seek> Streams<'p, R> {
    /// Those of a patch that makes a file of such a length, and where addresses are.
    fn open(patch: &'p RefCell<R>, promised: u64) -> Result<(Self, Option<Layout>), PatchError> {
        let end = patch.borrow_mut().seek(SeekFrom::End(0))?;
        let mut header = Section { file: patch, position: 0, end };
        let mut magic = [0; MAGIC.len()];
        read(&mut header, &mut magic)?;
        if ![MAGIC, MAGIC_WITH_ADDRESSES].contains(&magic) {
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
        let layout = (magic == MAGIC_WITH_ADDRESSES).then(|| Layout::read(&mut header)).transpose()?;
        let first = header.position;
        let second = first.checked_add(steps).filter(|start| *start <= end);
        let third = second.and_then(|second| second.checked_add(added)).filter(|start| *start <= end);
        let (Some(second), Some(third)) = (second, third) else {
            return Err(PatchError::Malformed("its streams are longer than it is"));
        };
        let section = |position: u64, end: u64| Section { file: patch, position, end };
        let (added, fresh) = (section(second, third).stream()?, section(third, end).stream()?);
        Ok((Self { steps: section(first, second), added, fresh }, layout))
    }

    /// The first one, from its beginning.
    fn steps(&self) -> io::Result<Stream<'p, R>> {
        let Section { file, position, end } = self.steps;
        Section { file, position, end }.stream()
    }
}

/// Part of a file that is read by several.
struct Section<'p, R> {
    file: &'p RefCell<R>,
    position: u64,
    end: u64,
}

impl<'p, R: Read + Seek> Section<'p, R> {
    fn stream(self) -> io::Result<Stream<'p, R>> {
        let mut stream = Decoder::with_buffer(BufReader::with_capacity(PIECE, self))?;
        stream.window_log_max(WINDOW)?;
        Ok(stream)
    }
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

mod addresses;
mod make;

#[cfg(test)]
mod tests;
