//! The lab's release feed: electron-builder YAML and archives of the sample app.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest;

use crate::process::program;
use crate::release_server::ReleaseServer;

/// A running feed.
pub struct Feed {
    /// The server that it lies on.
    pub server: ReleaseServer,
}

/// What is wrong with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The archive has other content of the same length.
    OtherContent,
    /// The second half of the archive is missing.
    Truncated,
    /// The archive is longer than promised.
    TooLong,
    /// The program does not start.
    DoesNotStart,
    /// The archive has no program.
    NoProgram,
    /// The archive begins with the name of a file, of 64 MiB.
    LongName,
    /// The archive has a link to a file of the system.
    LinkOutside,
}

impl Feed {
    /// Starts an empty feed on a free port.
    pub async fn start() -> Self {
        Self { server: ReleaseServer::start().await }
    }

    /// The address of the feed.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/latest.yml", self.server.base())
    }

    /// Writes everything into a folder, for another web server.
    ///
    /// # Panics
    /// The disk is full.
    pub fn save(&self, folder: &std::path::Path) {
        for (name, bytes) in self.server.files() {
            fs_err::write(folder.join(name), bytes).expect("the disk has room");
        }
    }

    /// Publishes a version of the sample app.
    pub fn publish(&self, version: &str) {
        self.release(version, None, "", "");
    }

    /// Publishes a version as a zip, or as a program that is everything itself, by the ending of its name.
    ///
    /// # Panics
    /// The ending is neither `.zip` nor `.AppImage`, or the sample app was not built.
    pub fn publish_as(&self, version: &str, ending: &str) {
        let app = fs_err::read(program("lab-notes")).expect("it is built");
        let bytes = match ending {
            ".AppImage" => app,
            ".zip" => {
                let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
                for (path, mode, content) in
                    [("VERSION", 0o644, version.as_bytes()), ("bin/lab-notes", 0o755, &app)]
                {
                    let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
                    writer.start_file(path, options).expect("memory is enough");
                    std::io::Write::write_all(&mut writer, content).expect("memory is enough");
                }
                writer.finish().expect("memory is enough").into_inner()
            }
            other => panic!("no archive is named so: {other}"),
        };
        self.publish_file(version, &format!("lab-notes-{version}{ending}"), bytes);
    }

    /// Publishes a version as any file.
    pub fn publish_file(&self, version: &str, name: &str, bytes: Vec<u8>) {
        self.write(&text(version, name, &bytes, ""));
        self.server.put(name, bytes);
    }

    /// Publishes a version as electron-builder packs it: in a folder, and with a link.
    pub fn publish_in_folder(&self, version: &str) {
        self.release(version, None, &format!("lab-notes-{version}/"), "");
    }

    /// Publishes a version with more lines in the feed.
    pub fn publish_with(&self, version: &str, more: &str) {
        self.release(version, None, "", more);
    }

    /// Publishes a version with something wrong.
    pub fn publish_faulty(&self, version: &str, fault: Fault) {
        self.release(version, Some(fault), "", "");
    }

    /// Replaces the feed with any text.
    pub fn write(&self, text: &str) {
        self.server.put("latest.yml", text.into());
    }

    /// Publishes a version while the archive of the one before is being requested.
    pub fn publish_during_next_download(&self, version: &str) {
        let (name, archive, text) = build(version, None, "", "");
        self.server.put_later(&name, archive);
        self.server.put_later("latest.yml", text.into());
    }

    fn release(&self, version: &str, fault: Option<Fault>, folder: &str, more: &str) {
        let (name, archive, text) = build(version, fault, folder, more);
        self.write(&text);
        self.server.put(&name, archive);
    }
}

/// The name of an archive, the archive, and the feed that offers it.
fn build(version: &str, fault: Option<Fault>, folder: &str, more: &str) -> (String, Vec<u8>, String) {
    let mut archive = sample_app(version, fault, folder);
    let name = format!("lab-notes-{version}.tar.gz");
    let text = text(version, &name, &archive, more);
    let size = archive.len();
    match fault {
        Some(Fault::OtherContent) => archive[size / 2] ^= 1,
        Some(Fault::Truncated) => archive.truncate(size / 2),
        Some(Fault::TooLong) => archive.extend_from_slice(&[0; 4096]),
        Some(Fault::DoesNotStart | Fault::NoProgram | Fault::LongName | Fault::LinkOutside) | None => {}
    }
    (name, archive, text)
}

/// A feed that offers a file.
#[must_use]
pub fn text(version: &str, name: &str, file: &[u8], more: &str) -> String {
    let hash = STANDARD.encode(digest::digest(&digest::SHA512, file));
    let size = file.len();
    format!(
        "version: {version}\nfiles:\n  - url: {name}\n    sha512: {hash}\n    size: {size}\npath: {name}\n\
         sha512: {hash}\nreleaseDate: '2026-01-01T00:00:00.000Z'\n{more}"
    )
}

/// The archive of a version of the sample app, with what is wrong with it, and with a folder around it.
///
/// # Panics
/// The sample app was not built.
#[must_use]
pub fn sample_app(version: &str, fault: Option<Fault>, folder: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    if fault == Some(Fault::LongName) {
        let length = 64 * 1024 * 1024;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(length);
        header.set_cksum();
        let name = std::io::Read::take(std::io::repeat(b'n'), length);
        builder.append(&header, name).expect("memory is enough");
    }
    let mut add = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        builder.append_data(&mut header, format!("{folder}{path}"), bytes).expect("memory is enough");
    };
    add("VERSION", 0o644, version.as_bytes());
    if fault == Some(Fault::DoesNotStart) {
        add("broken", 0o644, b"");
    }
    if fault != Some(Fault::NoProgram) {
        let app = fs_err::read(program("lab-notes")).expect("it is built");
        add("bin/lab-notes", 0o755, &app);
    }
    let target = match fault {
        Some(Fault::LinkOutside) => Some("/etc/passwd"),
        _ if folder.is_empty() => None,
        _ => Some("bin/lab-notes"),
    };
    if let Some(target) = target {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, format!("{folder}start"), target).expect("memory is enough");
    }
    builder.into_inner().and_then(GzEncoder::finish).expect("memory is enough")
}
