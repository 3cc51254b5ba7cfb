//! The Windows Installer package: its database, written table by table (Microsoft, "Windows Installer Database Tables"), and its
//! cabinet. [`super::msi_tables`] says what is in it.

use std::io::{Cursor, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use msi::{Column, Insert, LanguageId, Package, PackageType, Value};
use time::PrimitiveDateTime;
use uuid::Uuid;

/// Identifiers that have to be the same in each build are computed below this one.
const NAMESPACE: Uuid = Uuid::from_u128(0x5f0c_7a7e_31b6_4a1f_9c51_7d0b_52c0_9a11);

/// A file of the package: its key in the tables, its names, its version if it has one, and where it is now.
pub(super) struct File {
    pub(super) key: &'static str,
    pub(super) short_name: &'static str,
    pub(super) name: &'static str,
    pub(super) component: &'static str,
    pub(super) version: Option<String>,
    pub(super) source: PathBuf,
}

/// A row: texts, numbers, and nothing.
pub(super) type Row = Vec<Value>;

/// A table with its rows. The columns have spaces between them; each is its name and its type as `.idt` files write it: `s` or `l` for a text, `i2` or `i4` for a
/// number, `v` for a stream; a capital letter may be empty; `*` is the key.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static str,
    pub(super) rows: Vec<Row>,
}

/// An identifier that is the same in each build, in the form of the tables.
pub(super) fn identifier(name: &str) -> String {
    format!("{{{}}}", Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string().to_uppercase())
}

/// Writes a package. `created` is in seconds of Unix time.
pub(super) fn write(
    target: &Path,
    title: &str,
    tables: Vec<Table>,
    cabinet: &[u8],
    created: u64,
) -> anyhow::Result<()> {
    let mut package = Package::create(PackageType::Installer, Cursor::new(Vec::new()))?;
    let rows = format!("{:?}", tables.iter().map(|table| (table.name, &table.rows)).collect::<Vec<_>>());
    let content = Uuid::new_v5(&NAMESPACE, &[title.as_bytes(), rows.as_bytes(), cabinet].concat());
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(created);
    let summary = package.summary_info_mut();
    summary.set_title("Installation Database");
    summary.set_subject(title);
    summary.set_author("The Steward developers");
    summary.set_comments("Fleet agent: policy, sign-in and health for desktop apps");
    summary.set_arch("x64");
    summary.set_languages(&[LanguageId::from(1033)]);
    summary.set_uuid(content);
    summary.set_creation_time(time);
    summary.set_last_save_time(time);
    summary.set_creating_application("cargo xtask dist");
    // The version of Windows Installer that has all the tables; compressed files, long names; read-only is recommended.
    summary.set_page_count(500);
    summary.set_word_count(2);
    summary.set_doc_security(2);
    for Table { name, columns, rows } in tables {
        package.create_table(name, columns.split(' ').map(parse).collect::<Result<_, _>>()?)?;
        package.insert_rows(Insert::into(name).rows(rows)).with_context(|| format!("table {name}"))?;
    }
    package.write_stream("steward.cab")?.write_all(cabinet)?;
    package.flush()?;
    let bytes = package.into_inner()?.into_inner();
    Ok(fs_err::write(target, in_old_container(bytes)?)?)
}

/// A column as `.idt` files write it, with its name before it: `Property:s72*`.
fn parse(text: &str) -> anyhow::Result<Column> {
    let (name, kind) = text.split_once(':').context("a column has a name and a type")?;
    let (kind, is_key) = kind.strip_suffix('*').map_or((kind, false), |kind| (kind, true));
    let letter = kind.chars().next().context("a column has a type")?;
    let length: usize = kind[1..].parse()?;
    let mut column = Column::build(name);
    if letter.is_ascii_uppercase() {
        column = column.nullable();
    }
    if is_key {
        column = column.primary_key();
    }
    Ok(match (letter.to_ascii_lowercase(), length) {
        ('s', length) => column.string(length),
        ('l', length) => column.localizable().string(length),
        ('i', 2) => column.int16(),
        ('i', 4) => column.int32(),
        ('v', 0) => column.binary(),
        _ => bail!("{text} is no column"),
    })
}

/// All files in one cabinet, under their keys.
pub(super) fn cabinet(
    files: &[File],
    compression: cab::CompressionType,
    created: u64,
) -> anyhow::Result<Vec<u8>> {
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(created)?)?;
    let mut builder = cab::CabinetBuilder::new();
    let folder = builder.add_folder(compression);
    for file in files {
        folder.add_file(file.key).set_datetime(PrimitiveDateTime::new(time.date(), time.time()));
    }
    let mut writer = builder.build(Cursor::new(Vec::new()))?;
    for file in files {
        let mut place = writer.next_file()?.context("each file has a place")?;
        std::io::copy(&mut fs_err::File::open(&file.source)?, &mut place)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// The same in a container of version 3 with fixed times: what signs cannot read version 4, and builds must not differ.
fn in_old_container(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut from = cfb::CompoundFile::open(Cursor::new(bytes))?;
    let mut to = cfb::CompoundFile::create_with_version(cfb::Version::V3, Cursor::new(Vec::new()))?;
    to.set_storage_clsid("/", *from.root_entry().clsid())?;
    let paths: Vec<PathBuf> =
        from.walk().filter(cfb::Entry::is_stream).map(|entry| entry.path().into()).collect();
    for path in paths {
        let mut content = Vec::new();
        from.open_stream(&path)?.read_to_end(&mut content)?;
        let mut stream = to.create_stream(&path)?;
        stream.write_all(&content)?;
        stream.flush()?;
    }
    // The creation of the root has to be zero (MS-CFB, 2.6.1), which is the year 1601.
    let zero = std::time::UNIX_EPOCH - std::time::Duration::from_hours(3_234_576);
    to.set_created_time("/", zero)?;
    to.set_modified_time("/", std::time::UNIX_EPOCH)?;
    to.flush()?;
    let mut bytes = to.into_inner();
    bytes.seek(SeekFrom::Start(0))?;
    Ok(bytes.into_inner())
}
