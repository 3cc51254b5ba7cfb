//! The containers of a flat package for macOS: the archive xar, and the bill of materials (Bom). Apple documents neither; both are as
//! Apple's `pkgbuild` writes them, and libarchive, 7-Zip and the crates `apple-flat-package` and `apple-bom` read them.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use policy_schema::export::xml::{Xml, document, element, empty, text};

use crate::tools::output;

/// A file of an archive, or a folder with files.
pub(super) enum Entry {
    File(&'static str, Vec<u8>),
    Folder(&'static str, Vec<Self>),
}

/// SHA-1 is what every reader of xar knows; a signature covers it. It protects nothing by itself.
fn checksum(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

/// An archive: header, compressed table of contents, and a heap with the checksum of that table and the files. `created` is in RFC
/// 3339.
pub(super) fn xar(entries: &[Entry], created: &str) -> anyhow::Result<Vec<u8>> {
    let size = checksum(&[]).len();
    let mut heap = vec![0; size];
    let mut last = 0;
    let table = document(|xml| {
        element(xml, "xar", &[], |xar| {
            element(xar, "toc", &[], |toc| {
                text(toc, "creation-time", &[], created)?;
                element(toc, "checksum", &[("style", "sha1")], |checksum| {
                    text(checksum, "offset", &[], "0")?;
                    text(checksum, "size", &[], &size.to_string())
                })?;
                entries.iter().try_for_each(|entry| describe(toc, entry, &mut last, &mut heap))
            })
        })
    });
    let mut compressed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    compressed.write_all(&table)?;
    let compressed = compressed.finish()?;
    heap[..size].copy_from_slice(&checksum(&compressed));
    let mut archive = b"xar!".to_vec();
    // The size of this header, the version of the format, the sizes of the table, and SHA-1.
    archive.extend(28_u16.to_be_bytes());
    archive.extend(1_u16.to_be_bytes());
    archive.extend(u64::try_from(compressed.len())?.to_be_bytes());
    archive.extend(u64::try_from(table.len())?.to_be_bytes());
    archive.extend(1_u32.to_be_bytes());
    archive.extend(compressed);
    archive.extend(heap);
    Ok(archive)
}

/// Describes an entry in the table, and lays its bytes on the heap.
fn describe(xml: &mut Xml, entry: &Entry, last: &mut u32, heap: &mut Vec<u8>) -> std::io::Result<()> {
    *last += 1;
    let identifier = last.to_string();
    element(xml, "file", &[("id", &identifier)], |file| {
        let (name, kind, mode) = match entry {
            Entry::File(name, bytes) => {
                let sum = super::hexadecimal(&checksum(bytes));
                let (length, offset) = (bytes.len().to_string(), heap.len().to_string());
                heap.extend(bytes);
                element(file, "data", &[], |data| {
                    text(data, "archived-checksum", &[("style", "sha1")], &sum)?;
                    text(data, "extracted-checksum", &[("style", "sha1")], &sum)?;
                    empty(data, "encoding", &[("style", "application/octet-stream")])?;
                    text(data, "offset", &[], &offset)?;
                    text(data, "size", &[], &length)?;
                    text(data, "length", &[], &length)
                })?;
                (name, "file", "0644")
            }
            Entry::Folder(name, _) => (name, "directory", "0755"),
        };
        text(file, "name", &[], name)?;
        text(file, "type", &[], kind)?;
        text(file, "mode", &[], mode)?;
        if let Entry::Folder(_, entries) = entry {
            entries.iter().try_for_each(|entry| describe(file, entry, last, heap))?;
        }
        Ok(())
    })
}

/// The blocks of a bill of materials. Block 0 is empty: its number says that there is none.
struct Blocks(Vec<Vec<u8>>);

impl Blocks {
    /// Adds a block and gives its number.
    fn add(&mut self, bytes: Vec<u8>) -> anyhow::Result<u32> {
        self.0.push(bytes);
        Ok(u32::try_from(self.0.len() - 1)?)
    }

    /// Adds a tree with one leaf, which has pairs of numbers of blocks: value and key.
    fn tree(&mut self, block_size: u32, pairs: &[(u32, u32)]) -> anyhow::Result<u32> {
        // This is a leaf; how many pairs; no leaf after it, none before it.
        let mut leaf = [1_u16.to_be_bytes(), u16::try_from(pairs.len())?.to_be_bytes()].concat();
        leaf.extend([0; 8]);
        leaf.extend(pairs.iter().flat_map(|(value, key)| numbers(&[*value, *key])));
        let leaf = self.add(leaf)?;
        let count = u32::try_from(pairs.len())?;
        self.add([b"tree".to_vec(), numbers(&[1, leaf, block_size, count]), vec![0]].concat())
    }
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// How many paths fit in a leaf.
const PATHS: usize = 256;

/// Everything below a folder, itself included, level by level, by name; each with the number of the folder that it is in, counted
/// from 1 in this order.
pub(super) fn paths_of(folder: &Path) -> anyhow::Result<Vec<(usize, PathBuf)>> {
    let mut paths = vec![(0, folder.to_owned())];
    let mut next = 0;
    while let Some((_, path)) = paths.get(next).cloned() {
        next += 1;
        if path.symlink_metadata()?.is_dir() {
            let mut inside: Vec<PathBuf> =
                fs_err::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
            inside.sort();
            paths.extend(inside.into_iter().map(|path| (next, path)));
        }
    }
    Ok(paths)
}

/// The bill of materials of paths, all of them of root. `time` is in seconds of Unix time.
pub(super) fn bill_of_materials(paths: &[(usize, PathBuf)], time: u32) -> anyhow::Result<Vec<u8>> {
    ensure!(paths.len() <= PATHS, "{} paths do not fit in one leaf of a Bom", paths.len());
    let mut blocks = Blocks(vec![Vec::new()]);
    // Version, paths with the number 0, one entry about all processors.
    let info = blocks.add(numbers(&[1, u32::try_from(paths.len())? + 1, 1, 0, 0, 0, 0]))?;
    let mut pairs = Vec::new();
    for (index, (parent, path)) in paths.iter().enumerate() {
        let record = blocks.add(record(path, time)?)?;
        let value = blocks.add(numbers(&[u32::try_from(index)? + 1, record]))?;
        let name = if index == 0 { Some(std::ffi::OsStr::new(".")) } else { path.file_name() };
        let name = name.and_then(|name| name.to_str()).context("names are of ASCII")?;
        let key = blocks.add([numbers(&[u32::try_from(*parent)?]), name.into(), vec![0]].concat())?;
        pairs.push((value, key));
    }
    let tree = blocks.tree(4096, &pairs)?;
    let links = blocks.tree(4096, &[])?;
    let versions = blocks.tree(128, &[])?;
    let versions = blocks.add([numbers(&[1, versions, 0]), vec![0]].concat())?;
    let large = blocks.tree(4096, &[])?;
    let variables =
        [("BomInfo", info), ("Paths", tree), ("HLIndex", links), ("VIndex", versions), ("Size64", large)];
    store(&blocks, &variables)
}

/// What is known about a file or a folder: kind, mode, owner, time, size, and the checksum that `cksum` prints (POSIX).
fn record(path: &Path, time: u32) -> anyhow::Result<Vec<u8>> {
    let data = path.symlink_metadata()?;
    ensure!(data.is_dir() || data.is_file(), "{} is neither a file nor a folder", path.display());
    let is_file = data.is_file();
    let (size, sum) = if is_file {
        let line = output(Command::new("cksum").arg(path))?;
        (u32::try_from(data.size())?, line.split(' ').next().context("cksum prints a number")?.parse()?)
    } else {
        (0, 0)
    };
    // The kind, and any processor.
    let (kind, processor) = if is_file { (1, 15_u16) } else { (2, 0) };
    let mut record = vec![kind, 1];
    record.extend(processor.to_be_bytes());
    record.extend(u16::try_from(data.permissions().mode())?.to_be_bytes());
    record.extend(numbers(&[0, 0, time, size]));
    record.push(1);
    // No link.
    record.extend(numbers(&[sum, 0]));
    Ok(record)
}

/// Header, blocks, their index with two free entries, and the variables: names of blocks.
fn store(blocks: &Blocks, variables: &[(&str, u32)]) -> anyhow::Result<Vec<u8>> {
    const HEADER: usize = 512;
    let mut data = Vec::new();
    let mut index = numbers(&[u32::try_from(blocks.0.len())?]);
    for block in &blocks.0 {
        let (offset, length) = (u32::try_from(HEADER + data.len())?, u32::try_from(block.len())?);
        index.extend(numbers(&if length == 0 { [0, 0] } else { [offset, length] }));
        data.extend(block);
    }
    index.extend(numbers(&[2, 0, 0, 0, 0]));
    let mut names = numbers(&[u32::try_from(variables.len())?]);
    for (name, block) in variables {
        names.extend(numbers(&[*block]));
        names.push(u8::try_from(name.len())?);
        names.extend(name.as_bytes());
    }
    let variables_at = HEADER + data.len();
    let index_at = variables_at + names.len();
    let places = [blocks.0.len() - 1, index_at, index.len(), variables_at, names.len()];
    let mut file = b"BOMStore".to_vec();
    file.extend(numbers(&[1]));
    for place in places {
        file.extend(u32::try_from(place)?.to_be_bytes());
    }
    file.resize(HEADER, 0);
    Ok([file, data, names, index].concat())
}
