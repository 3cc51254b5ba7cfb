//! Addresses in programs. A version that has grown by an instruction moves all that follows, and with it each address that refers to that: few
//! bytes are new, and nearly all addresses are others. So an address is not taken as it is in the old file, but as it is expected in the
//! new one: where the steps of the patch have moved what it refers to. (As do Courgette and Zucchini of Chromium.)
//!
//! A patch says where what is in memory, and where there are addresses; so whoever applies one knows nothing of the formats of programs. What is
//! taken for an address and is none costs some bytes, for what is added to it corrects it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Read;
use std::ops::Range;

use super::{PatchError, Step, read_number, write_number};

/// So many segments and areas of a program, at most.
const MOST: usize = 64;
/// So many steps at most, in a patch with addresses: they are in memory all at once.
pub(super) const MAXIMUM_STEPS: usize = 512 * 1024;
/// Smaller numbers are no addresses.
const LEAST: u64 = 4096;

/// A part of a file that is in memory when the program runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) address: u64,
    /// How much memory it has: there may be more than is in the file.
    pub(super) memory: u64,
}

/// How the addresses in a part of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In instructions of x86-64: 32 bits, from the end of the field. Where instructions begin is not known: what looks like an operand counts.
    Code,
    /// As they are, in 64 bits.
    Words,
    /// From [`Image::base`] on, in 32 bits.
    Offsets,
}

/// Part of a file where there are addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) kind: Kind,
}

/// A program as it is in memory.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) base: u64,
    pub(super) segments: Vec<Segment>,
}

/// An address in a file, and what it refers to.
pub(super) struct Reference {
    kind: Kind,
    /// Where in the file it is written.
    place: u64,
    /// What it refers to, in the file.
    pub(super) target: u64,
    /// How far behind that, where there is memory that is not in the file.
    pub(super) beyond: u64,
}

/// A program, and where in it there are addresses.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) image: Image,
    /// In order, and none overlaps another one.
    areas: Vec<Area>,
}

/// Where addresses are, in the old program, and how to write them in the new one.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) old: Program,
    pub(super) new: Image,
}

/// What the addresses of the old program are expected to be in the new one.
pub(super) struct Expected {
    layout: Layout,
    /// From where on the old file is moved, and by how much. In order.
    moved: Vec<(u32, i32)>,
}

impl Image {
    fn address(&self, place: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let offset = place.checked_sub(segment.start.into())?;
            (offset < segment.length.into()).then(|| segment.address.wrapping_add(offset))
        })
    }

    /// What in the file an address refers to, and how far behind that.
    fn target(&self, address: u64) -> Option<(u64, u64)> {
        self.segments.iter().find_map(|segment| {
            let offset = address.checked_sub(segment.address)?;
            let last = u64::from(segment.length).checked_sub(1)?;
            let within = offset.min(last);
            (offset < segment.memory.max(last + 1))
                .then(|| (u64::from(segment.start) + within, offset - within))
        })
    }
}

impl Area {
    fn end(&self) -> u64 {
        u64::from(self.start) + u64::from(self.length)
    }

    /// Which of some bytes are in it, the first of them where alignment is right.
    fn within(&self, length: usize, at: u64) -> Range<usize> {
        let (start, step) = (u64::from(self.start), self.kind.width());
        let step = if self.kind == Kind::Code { 1 } else { step };
        let end = self.end().saturating_sub(at);
        let from = start.max(at).next_multiple_of(step as u64) - at;
        let index = |position: u64| usize::try_from(position).unwrap_or(length).min(length);
        index(from)..index(end)
    }
}

impl Kind {
    /// How many bytes an address has.
    fn width(self) -> usize {
        match self {
            Self::Words => 8,
            Self::Code | Self::Offsets => 4,
        }
    }
}

/// How many bytes there are before the operand of an instruction that begins here, if it looks like one that has an address. Jumps and calls
/// (E8, E9, 0F 80 to 0F 8F), and all that address memory from the instruction pointer on (a ModR/M byte with mod 0 and r/m 5).
fn opcode(code: &[u8]) -> Option<usize> {
    match code {
        [0xe8 | 0xe9, ..] => Some(1),
        [0x0f, 0x80..=0x8f, ..] => Some(2),
        [_, operand, ..] if operand & 0xc7 == 0x05 => Some(2),
        _ => None,
    }
}

impl Program {
    /// Of areas that overlap, the first one counts.
    pub(super) fn new(image: Image, mut areas: Vec<Area>) -> Self {
        areas.sort_by_key(|area| area.start);
        let mut end = 0;
        areas.retain(|area| {
            let is_apart = u64::from(area.start) >= end;
            end = if is_apart { area.end() } else { end };
            is_apart
        });
        Self { image, areas }
    }

    /// Shows each address of a part of the file, and lets it be replaced. `at`: where that part is.
    pub(super) fn references(&self, bytes: &mut [u8], at: u64, mut each: impl FnMut(&mut [u8], Reference)) {
        for area in &self.areas {
            let Range { start: mut index, end } = area.within(bytes.len(), at);
            let width = area.kind.width();
            while index < end {
                let before = match area.kind {
                    Kind::Code => opcode(&bytes[index..end]),
                    Kind::Words | Kind::Offsets => Some(0),
                };
                let field = before.map(|before| index + before);
                let found = field.and_then(|field| {
                    let written = bytes[..end].get(field..field + width)?;
                    Some((field, self.reference(area.kind, written, at + field as u64)?))
                });
                index = match (found, area.kind) {
                    (Some((field, reference)), _) => {
                        each(&mut bytes[field..field + width], reference);
                        field + width
                    }
                    (None, Kind::Code) => index + 1,
                    (None, Kind::Words | Kind::Offsets) => index + width,
                };
            }
        }
    }

    fn reference(&self, kind: Kind, written: &[u8], place: u64) -> Option<Reference> {
        let mut number = [0; 8];
        number[..written.len()].copy_from_slice(written);
        let number = u64::from_le_bytes(number);
        let address = match kind {
            Kind::Code => {
                let distance = (number ^ 0x8000_0000).wrapping_sub(0x8000_0000);
                self.image.address(place)?.wrapping_add(4).wrapping_add(distance)
            }
            Kind::Words => Some(number).filter(|number| *number >= LEAST)?,
            Kind::Offsets => self.image.base.wrapping_add(number),
        };
        let (target, beyond) = self.image.target(address)?;
        Some(Reference { kind, place, target, beyond })
    }
}

impl Layout {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let mut write = |numbers: &[u64]| numbers.iter().for_each(|number| write_number(to, *number));
        for image in [&self.old.image, &self.new] {
            write(&[image.base, image.segments.len() as u64]);
            for segment in &image.segments {
                write(&[segment.start.into(), segment.length.into(), segment.address, segment.memory]);
            }
        }
        write(&[self.old.areas.len() as u64]);
        for area in &self.old.areas {
            write(&[area.start.into(), area.length.into(), area.kind as u64]);
        }
    }

    pub(super) fn read(from: &mut impl Read) -> Result<Self, PatchError> {
        let image = Image::read(from)?;
        let new = Image::read(from)?;
        let mut areas: Vec<Area> = Vec::new();
        for _ in 0..count(from)? {
            let (start, length) = (small(from)?, small(from)?);
            // Else each byte could be in all of them.
            if areas.last().is_some_and(|last| last.end() > start.into()) {
                return Err(PatchError::Malformed("its addresses overlap"));
            }
            let kind = match read_number(from)? {
                0 => Kind::Code,
                1 => Kind::Words,
                2 => Kind::Offsets,
                _ => return Err(PatchError::Malformed("its addresses are of an unknown kind")),
            };
            areas.push(Area { start, length, kind });
        }
        Ok(Self { old: Program { image, areas }, new })
    }

    /// Whether a patch can say all of it.
    pub(super) fn fits(&self) -> bool {
        let lists = [self.old.image.segments.len(), self.new.segments.len(), self.old.areas.len()];
        lists.into_iter().all(|length| length <= MOST)
    }
}

impl Image {
    fn read(from: &mut impl Read) -> Result<Self, PatchError> {
        let base = read_number(from)?;
        let mut segments = Vec::new();
        for _ in 0..count(from)? {
            let (start, length) = (small(from)?, small(from)?);
            segments.push(Segment { start, length, address: read_number(from)?, memory: read_number(from)? });
        }
        Ok(Self { base, segments })
    }
}

fn count(from: &mut impl Read) -> Result<usize, PatchError> {
    let count = usize::try_from(read_number(from)?).ok().filter(|count| *count <= MOST);
    count.ok_or(PatchError::Malformed("it has too many addresses"))
}

fn small(from: &mut impl Read) -> Result<u32, PatchError> {
    u32::try_from(read_number(from)?).map_err(|_| PatchError::Malformed("an address is too large"))
}

/// What a step takes from the old file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Taken {
    // First: where several steps take the same bytes, the longest one says where they went.
    length: u32,
    start: Reverse<u32>,
    by: i32,
}

impl Taken {
    fn of(step: &Step) -> Option<Self> {
        let start = Reverse(u32::try_from(step.old).ok()?);
        let by = i32::try_from(step.new.checked_signed_diff(step.old)?).ok()?;
        Some(Self { length: step.taken.try_into().ok()?, start, by })
    }

    fn end(&self) -> u32 {
        self.start.0.saturating_add(self.length)
    }
}

/// From where on the old file is moved, and by how much.
fn moved(mut steps: Vec<Taken>) -> Vec<(u32, i32)> {
    steps.sort_unstable_by_key(|step| step.start.0);
    let mut next = steps.into_iter().peekable();
    let (mut active, mut moved, mut at) = (BinaryHeap::<Taken>::new(), Vec::<(u32, i32)>::new(), 0);
    loop {
        active.extend(std::iter::from_fn(|| next.next_if(|step| step.start.0 <= at)));
        while active.peek().is_some_and(|longest| longest.end() <= at) {
            active.pop();
        }
        let following = next.peek().map(|step| step.start.0);
        at = match (active.peek(), following) {
            (Some(longest), following) => {
                if moved.last().is_none_or(|(_, by)| *by != longest.by) {
                    moved.push((at, longest.by));
                }
                longest.end().min(following.unwrap_or(u32::MAX))
            }
            (None, Some(following)) => following,
            (None, None) => return moved,
        };
    }
}

impl Expected {
    /// `steps`: all of the patch.
    pub(super) fn new(
        layout: Layout,
        steps: impl Iterator<Item = Result<Step, PatchError>>,
    ) -> Result<Self, PatchError> {
        let mut taken = Vec::new();
        for step in steps {
            if taken.len() == MAXIMUM_STEPS {
                return Err(PatchError::Malformed("it has too many steps"));
            }
            let step = Taken::of(&step?).ok_or(PatchError::Malformed("a step is too long"))?;
            taken.extend(Some(step).filter(|step| step.length > 0));
        }
        Ok(Self { layout, moved: moved(taken) })
    }

    /// Replaces the addresses in bytes of the old file by what is expected in the new one. `from` and `to`: where they are in each.
    pub(super) fn replace(&self, bytes: &mut [u8], from: u64, to: u64) {
        self.layout.old.references(bytes, from, |field, reference| {
            if let Some(number) = self.number(&reference, reference.place - from + to) {
                field.copy_from_slice(&number.to_le_bytes()[..field.len()]);
            }
        });
    }

    /// What is expected at a place of the new file.
    fn number(&self, reference: &Reference, place: u64) -> Option<u64> {
        let new = &self.layout.new;
        let moved = self.moved.partition_point(|(from, _)| u64::from(*from) <= reference.target);
        let (_, by) = self.moved.get(moved.checked_sub(1)?)?;
        let target = new.address(reference.target.checked_add_signed((*by).into())?)?;
        let target = target.wrapping_add(reference.beyond);
        Some(match reference.kind {
            Kind::Code => target.wrapping_sub(new.address(place)?.wrapping_add(4)),
            Kind::Words => target,
            Kind::Offsets => target.wrapping_sub(new.base),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_of_several_steps_move_as_the_longest_step_does(
            steps in proptest::collection::vec((0_u32..60, 1_u32..20, -9_i32..9), 0..12),
        ) {
            let steps: Vec<Taken> =
                steps.into_iter().map(|(start, length, by)| Taken { length, start: Reverse(start), by }).collect();
            let moved = moved(steps.clone());
            prop_assert!(moved.is_sorted_by(|one, other| one.0 < other.0 && one.1 != other.1));
            let mut last = None;
            for place in 0..80 {
                let longest = steps.iter().filter(|step| (step.start.0..step.end()).contains(&place)).max();
                // Behind one that has ended, all is moved as its last byte is.
                last = longest.map(|longest| longest.by).or(last);
                let found = moved.iter().rfind(|(from, _)| *from <= place).map(|(_, by)| *by);
                prop_assert_eq!(found, last, "{}", place);
            }
        }
    }
}
