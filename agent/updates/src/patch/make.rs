//! What makes a patch. Programs are matched by what they do: each address is replaced by a name of what it refers to.

use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, ErrorKind, Write};

use bidiff::{DiffParams, Match};
use object::{Architecture, BinaryFormat, Object as _, ObjectSection as _, ObjectSegment as _, SectionKind};
use zstd::Encoder;

use super::addresses::{Area, Expected, Image, Kind, Layout, MAXIMUM_STEPS, Program, Segment};
use super::{MAGIC, MAGIC_WITH_ADDRESSES, PIECE, PatchError, Step, WINDOW, write_number, zigzag};

/// No patch is made for a larger file, in bytes: eight times as much memory is needed for that.
pub const MAXIMUM_MADE: u64 = 256 * 1024 * 1024;
/// A patch that is not below this share of the new file, in percent, saves too little.
const WORTH: u64 = 60;
/// Zstandard's level: patches are made once and downloaded by a fleet.
const LEVEL: i32 = 19;
/// How much of a file says whether it is compressed, in bytes.
const SAMPLE: usize = 1024 * 1024;
/// So many bytes of what an address refers to give it its name.
const NAME: usize = 16;

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

/// Makes the patch from one file to another one. It takes some seconds for each 10 MB, and memory of eight times the size
/// of such a file; by far longer where both have long runs of the same bytes, with the square of their length.
///
/// # Errors
/// A file is too large, or the old one is empty.
pub fn make(old: &[u8], new: &[u8]) -> Result<Vec<u8>, PatchError> {
    let is_too_large = |file: &[u8]| u64::try_from(file.len()).is_ok_and(|length| length > MAXIMUM_MADE);
    if old.is_empty() || is_too_large(old) || is_too_large(new) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "no patch is made between such files").into());
    }
    if let Some((old_program, new_program)) = program(old).zip(program(new)) {
        let steps = steps(&old_program.named(old), &new_program.named(new))?;
        let layout = Layout { old: old_program, new: new_program.image };
        if layout.fits() && steps.len() <= MAXIMUM_STEPS {
            let mut header = Vec::new();
            layout.write(&mut header);
            let expected = Expected::new(layout, steps.iter().copied().map(Ok))?;
            return written((old, new), &steps, Some((&header, &expected)));
        }
    }
    written((old, new), &steps(old, new)?, None)
}

/// The steps from one file to another one.
fn steps(old: &[u8], new: &[u8]) -> io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let number = |number: usize| u64::try_from(number).map_err(io::Error::other);
    bidiff::diff(old, new, &DiffParams::default(), |found: Match| -> io::Result<()> {
        let Match { add_old_start, add_new_start, add_length, copy_end } = found;
        if copy_end > add_new_start {
            let copied = number(copy_end - add_new_start - add_length)?;
            let (old, new) = (number(add_old_start)?, number(add_new_start)?);
            steps.push(Step { old, new, taken: number(add_length)?, copied });
        }
        Ok(())
    })?;
    Ok(steps)
}

/// The patch of such steps. `addresses`: what it says of them, and what they are expected to be.
fn written(
    (old, new): (&[u8], &[u8]),
    steps: &[Step],
    addresses: Option<(&[u8], &Expected)>,
) -> Result<Vec<u8>, PatchError> {
    let (mut numbers, mut added, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    let mut position = 0;
    let index = |number: u64| usize::try_from(number).map_err(io::Error::other);
    for Step { old: from, new: to, taken, copied } in steps.iter().copied() {
        let moved =
            from.checked_signed_diff(position).ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        for number in [zigzag(moved), taken, copied] {
            write_number(&mut numbers, number);
        }
        position = from + taken;
        let (start, length) = (index(from)?, index(taken)?);
        let mut bytes = old[start..start + length].to_vec();
        if let Some((_, expected)) = addresses {
            for (at, piece) in (0_u64..).step_by(PIECE).zip(bytes.chunks_mut(PIECE)) {
                expected.replace(piece, from + at, to + at);
            }
        }
        let (like, rest) = new[index(to)?..].split_at(length);
        added.extend(bytes.iter().zip(like).map(|(from, to)| to.wrapping_sub(*from)));
        fresh.extend(&rest[..index(copied)?]);
    }
    let (numbers, added, fresh) = (compress(&numbers)?, compress(&added)?, compress(&fresh)?);
    let mut patch = addresses.map_or(MAGIC, |_| MAGIC_WITH_ADDRESSES).to_vec();
    for length in [numbers.len(), added.len(), new.len()] {
        patch.extend(u64::try_from(length).map_err(io::Error::other)?.to_le_bytes());
    }
    let header = addresses.map_or_else(Vec::new, |(header, _)| header.to_vec());
    for part in [header, numbers, added, fresh] {
        patch.extend(part);
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

/// A file as a program: ELF or PE, of 64 bits.
fn program(file: &[u8]) -> Option<Program> {
    let read = object::File::parse(file).ok().filter(|read| read.is_64() && read.is_little_endian())?;
    let is_elf = read.format() == BinaryFormat::Elf;
    if !is_elf && read.format() != BinaryFormat::Pe {
        return None;
    }
    let small = |(start, length): (u64, u64)| {
        let end = start.checked_add(length)?;
        usize::try_from(end).ok().filter(|end| *end <= file.len())?;
        Some((u32::try_from(start).ok()?, u32::try_from(length).ok()?))
    };
    let segments = read.segments().filter_map(|segment| {
        let (start, length) = small(segment.file_range())?;
        Some(Segment { start, length, address: segment.address(), memory: segment.size() })
    });
    let image = Image { base: read.relative_address_base(), segments: segments.collect() };
    let areas = read.sections().filter_map(|section| {
        let is = |kinds: &[SectionKind]| kinds.contains(&section.kind());
        let kind = if is(&[SectionKind::Text]) {
            // Of others, such as ARM, nothing is known here.
            (read.architecture() == Architecture::X86_64).then_some(Kind::Code)?
        } else if !is_elf && section.name() == Ok(".pdata") {
            // Where each function begins and ends.
            Kind::Offsets
        } else if is_elf && is(&[SectionKind::ReadOnlyData, SectionKind::ReadOnlyString]) {
            // Its addresses are in the relocations; small numbers would be taken for some.
            return None;
        } else {
            Kind::Words
        };
        let (start, length) = small(section.file_range().filter(|_| section.address() > 0)?)?;
        Some(Area { start, length, kind })
    });
    let areas = areas.collect();
    Some(Program::new(image, areas))
}

impl Program {
    /// The file with a name for each address: a hash of what it refers to, that is the same wherever that is.
    fn named(&self, file: &[u8]) -> Vec<u8> {
        let mut blank = file.to_vec();
        self.references(&mut blank, 0, |field, _| field.fill(0));
        let mut named = file.to_vec();
        self.references(&mut named, 0, |field, reference| {
            let target = usize::try_from(reference.target).unwrap_or(usize::MAX);
            let like = blank.get(target..).unwrap_or_default();
            let mut hash = DefaultHasher::new();
            hash.write(&like[..like.len().min(NAME)]);
            hash.write_u64(reference.beyond);
            field.fill(0);
            field[..4].copy_from_slice(&hash.finish().to_le_bytes()[..4]);
        });
        named
    }
}
