//! The container in which Intune takes programs for Windows ("Win32 app"). Microsoft does not document it; this is what its Content Prep
//! Tool writes. The keys lie in the container itself, so they hide nothing: they are computed from the content, and the same content gives
//! the same bytes.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use policy_schema::export::xml::{document, element, text};
use ring::{digest, hmac};

use super::msi_writer::identifier;
use super::{fresh, hexadecimal, source_date};
use crate::tools::{debian_packages, output, run};

const CONTENT: &str = "IntuneWinPackage/Contents/IntunePackage.intunewin";
const METADATA: &str = "IntuneWinPackage/Metadata/Detection.xml";

/// Wraps a package of a version for Windows, and gives the path of the container beside it.
pub(super) fn wrap(package: &Path, version: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    debian_packages(&[("zip", "zip"), ("openssl", "openssl")])?;
    let name = package.file_name().and_then(|name| name.to_str()).context("a package has a name")?;
    let work = folder.join("intunewin");
    fresh(&work)?;
    fs_err::copy(package, work.join(name))?;
    let plain = work.join("content.zip");
    zip(&work, &plain, &["--quiet", "-9"], &[name])?;
    let plain = fs_err::read(plain)?;
    let encryption = encrypt(&plain)?;
    for (path, bytes) in [
        (CONTENT, encryption.file.as_slice()),
        (METADATA, &detection(name, version, plain.len(), &encryption, package)?),
    ] {
        let path = work.join(path);
        fs_err::create_dir_all(path.parent().unwrap_or(&work))?;
        fs_err::write(path, bytes)?;
    }
    let container = package.with_extension("intunewin");
    // Nothing is compressed: one is encrypted, and the portal reads the other.
    zip(&work, &container, &["--quiet", "-0"], &[CONTENT, METADATA])?;
    fs_err::remove_dir_all(work)?;
    Ok(container)
}

/// Makes an archive of files below a folder, whose times are that of the source.
fn zip(folder: &Path, archive: &Path, options: &[&str], names: &[&str]) -> anyhow::Result<()> {
    if archive.exists() {
        fs_err::remove_file(archive)?;
    }
    for name in names {
        // Whatever umask this runs under.
        fs_err::set_permissions(folder.join(name), Permissions::from_mode(0o644))?;
    }
    let date = format!("--date=@{}", source_date()?);
    run(Command::new("touch").arg(date).args(names).current_dir(folder))?;
    let mut command = Command::new("zip");
    command.args(options).args(["-X", "-D"]).arg(archive).args(names);
    run(command.current_dir(folder).env("TZ", "UTC"))
}

struct Encryption {
    key: [u8; 32],
    mac_key: [u8; 32],
    vector: [u8; 16],
    mac: Vec<u8>,
    digest: Vec<u8>,
    /// The authentication code, the vector and the encrypted content.
    file: Vec<u8>,
}

/// AES-256 in CBC mode, then HMAC-SHA-256 of vector and ciphertext.
fn encrypt(plain: &[u8]) -> anyhow::Result<Encryption> {
    let digest = digest::digest(&digest::SHA256, plain).as_ref().to_vec();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &digest);
    let derive =
        |label: &[u8]| -> anyhow::Result<[u8; 32]> { Ok(hmac::sign(&secret, label).as_ref().try_into()?) };
    let (key, mac_key) = (derive(b"encryption key")?, derive(b"mac key")?);
    let vector: [u8; 16] = derive(b"initialization vector")?[..16].try_into()?;
    let mut openssl = Command::new("openssl");
    openssl.args(["enc", "-aes-256-cbc", "-K", &hexadecimal(&key), "-iv", &hexadecimal(&vector)]);
    let mut openssl = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = openssl.stdin.take().context("its input is a pipe")?;
    let encrypted = std::thread::scope(|scope| {
        let writer = scope.spawn(move || input.write_all(plain));
        let output = openssl.wait_with_output()?;
        ensure!(output.status.success(), "openssl: {}", output.status);
        writer.join().ok().context("the writer ended early")??;
        Ok(output.stdout)
    })?;
    let authenticated = [&vector[..], &encrypted].concat();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &mac_key), &authenticated).as_ref().to_vec();
    let file = [&mac[..], &authenticated].concat();
    Ok(Encryption { key, mac_key, vector, mac, digest, file })
}

/// What the portal reads: how to decrypt the content, and what is known about the package.
fn detection(
    name: &str,
    version: &str,
    size: usize,
    encryption: &Encryption,
    package: &Path,
) -> anyhow::Result<Vec<u8>> {
    let product = identifier(&format!("product {version}"));
    let upgrade = identifier("upgrade");
    let summary = output(Command::new("msiinfo").arg("suminfo").arg(package))?;
    let code = summary.lines().find_map(|line| line.strip_prefix("Revision number (UUID): "));
    let code = code.context("the package has a code")?.to_owned();
    let size = size.to_string();
    let attributes = [
        ("xmlns:xsd", "http://www.w3.org/2001/XMLSchema"),
        ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
        ("ToolVersion", "1.8.6.0"),
    ];
    let encrypted = [
        ("EncryptionKey", BASE64.encode(encryption.key)),
        ("MacKey", BASE64.encode(encryption.mac_key)),
        ("InitializationVector", BASE64.encode(encryption.vector)),
        ("Mac", BASE64.encode(&encryption.mac)),
        ("ProfileIdentifier", "ProfileVersion1".to_owned()),
        ("FileDigest", BASE64.encode(&encryption.digest)),
        ("FileDigestAlgorithm", "SHA256".to_owned()),
    ];
    let installer = [
        ("MsiProductCode", product.as_str()),
        ("MsiProductVersion", version),
        ("MsiPackageCode", &code),
        ("MsiUpgradeCode", &upgrade),
        ("MsiExecutionContext", "System"),
        ("MsiRequiresLogon", "false"),
        ("MsiRequiresReboot", "false"),
        ("MsiIsMachineInstall", "true"),
        ("MsiIsUserInstall", "false"),
        ("MsiIncludesServices", "true"),
        ("MsiIncludesODBCDataSource", "false"),
        ("MsiContainsSystemRegistryKeys", "true"),
        ("MsiContainsSystemFolders", "false"),
        ("MsiPublisher", "The Steward developers"),
    ];
    Ok(document(|xml| {
        element(xml, "ApplicationInfo", &attributes, |info| {
            text(info, "Name", &[], name)?;
            text(info, "UnencryptedContentSize", &[], &size)?;
            text(info, "FileName", &[], "IntunePackage.intunewin")?;
            text(info, "SetupFile", &[], name)?;
            element(info, "EncryptionInfo", &[], |info| {
                encrypted.iter().try_for_each(|(name, value)| text(info, name, &[], value))
            })?;
            element(info, "MsiInfo", &[], |info| {
                installer.iter().try_for_each(|(name, value)| text(info, name, &[], value))
            })
        })
    }))
}

/// Reads a container as Intune does, with tools of others: the package in it must be this one.
pub(super) fn check(container: &Path, package: &Path, folder: &Path) -> anyhow::Result<()> {
    debian_packages(&[("7z", "p7zip-full"), ("xmllint", "libxml2-utils")])?;
    let unpacked = folder.join("intunewin-unpacked");
    fresh(&unpacked)?;
    let unpack = |archive: &Path| {
        let into = format!("-o{}", unpacked.display());
        run(Command::new("7z").args(["x", "-y", &into]).arg(archive).stdout(Stdio::null()))
    };
    unpack(container)?;
    let metadata = unpacked.join(METADATA);
    let value = |name: &str| {
        let query = format!("string(//*[local-name()='{name}'])");
        output(Command::new("xmllint").args(["--xpath", &query]).arg(&metadata))
    };
    let bytes = |name: &str| anyhow::Ok(BASE64.decode(value(name)?)?);
    let file = fs_err::read(unpacked.join(CONTENT))?;
    let (mac, authenticated) = file.split_at_checked(32).context("the content is too short")?;
    ensure!(mac == bytes("Mac")?, "the content begins with another code than the metadata");
    let encrypted = unpacked.join("encrypted");
    let hashed = unpacked.join("authenticated");
    fs_err::write(&encrypted, authenticated.get(16..).context("the content is too short")?)?;
    fs_err::write(&hashed, authenticated)?;
    let option = format!("hexkey:{}", hexadecimal(&bytes("MacKey")?));
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &option]);
    ensure!(output(command.arg(hashed))?.ends_with(&hexadecimal(mac)), "the code of the content is wrong");
    let decrypted = unpacked.join("content.zip");
    let mut command = Command::new("openssl");
    command.args(["enc", "-d", "-aes-256-cbc", "-K", &hexadecimal(&bytes("EncryptionKey")?)]);
    command.args(["-iv", &hexadecimal(&bytes("InitializationVector")?), "-in"]).arg(&encrypted);
    run(command.arg("-out").arg(&decrypted))?;
    let plain = fs_err::read(&decrypted)?;
    ensure!(value("UnencryptedContentSize")? == plain.len().to_string(), "the size is another");
    let sum = output(Command::new("sha256sum").arg(&decrypted))?;
    ensure!(sum.starts_with(&hexadecimal(&bytes("FileDigest")?)), "the digest is another");
    unpack(&decrypted)?;
    let inside = fs_err::read(unpacked.join(value("SetupFile")?))?;
    ensure!(inside == fs_err::read(package)?, "the package inside is another");
    Ok(fs_err::remove_dir_all(unpacked)?)
}
