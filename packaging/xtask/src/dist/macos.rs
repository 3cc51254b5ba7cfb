//! The flat package for macOS: a product with one component, so that management systems find one identifier in the receipt.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use policy_schema::export::xml::{document, element, empty, text};

use super::pkg_writer::{Entry, bill_of_materials, paths_of, xar};
use super::stage::{Family, place, stage};
use super::{Compression, Package, fresh, source_date};
use crate::tools::{self, debian_packages, files_of, output, repository, run};

/// The identifier of the receipt, and of the machine service.
const IDENTIFIER: &str = "dev.steward.agent";
/// The oldest macOS that programs of Rust run on, on every processor.
const OLDEST: &str = "11.0";
/// The folder of the component in the product.
const COMPONENT: &str = "steward.pkg";

/// Builds the package and gives its path.
pub(super) fn build(package: &Package<'_>) -> anyhow::Result<PathBuf> {
    let &Package { program, native, version, folder, compression } = package;
    let date = source_date()?;
    let time: u32 = date.parse()?;
    let root = folder.join("pkg");
    stage(program, native, Family::Mac, &root)?;
    let executable = root.join("Library/Application Support/Steward/bin/uninstall");
    place(&repository().join("packaging/macos/uninstall"), &executable, 0o755)?;
    let scripts = folder.join("pkg-scripts");
    fresh(&scripts)?;
    for name in ["preinstall", "postinstall"] {
        let script = scripts.join(name);
        place(&repository().join("packaging/macos/scripts").join(name), &script, 0o755)?;
        let text = fs_err::read_to_string(&script)?.replace("@VERSION@", version);
        fs_err::write(script, text)?;
    }

    super::stage::modes_of_folders(&scripts)?;
    let paths = paths_of(&root)?;
    let size: u64 = paths.iter().filter_map(|(_, path)| path.metadata().ok()).map(|data| data.len()).sum();
    let kilobytes = size.div_ceil(1024).to_string();
    let distribution = distribution(version, &kilobytes, processors(&fs_err::read(program)?)?);
    let package = folder.join(format!("steward-{version}.pkg"));
    if std::env::consts::OS == "macos" {
        by_apple(&root, &scripts, version, &distribution, &package)?;
    } else {
        debian_packages(&[("bsdtar", "libarchive-tools")])?;
        let component = vec![
            Entry::File("Bom", bill_of_materials(&paths, time)?),
            Entry::File("PackageInfo", package_info(version, paths.len(), &kilobytes)),
            Entry::File("Payload", archive(&root, &date, compression)?),
            Entry::File("Scripts", archive(&scripts, &date, compression)?),
        ];
        let entries = [Entry::File("Distribution", distribution), Entry::Folder(COMPONENT, component)];
        let date = format!("--date=@{date}");
        let created = output(Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", &date]))?;
        fs_err::write(&package, xar(&entries, &created)?)?;
    }
    fs_err::remove_dir_all(scripts)?;
    Ok(package)
}

/// The same by Apple's tools, which exist on a Mac only.
fn by_apple(
    root: &Path,
    scripts: &Path,
    version: &str,
    distribution: &[u8],
    package: &Path,
) -> anyhow::Result<()> {
    let components = package.with_extension("components");
    fresh(&components)?;
    let mut command = Command::new("pkgbuild");
    command.args(["--identifier", IDENTIFIER, "--version", version, "--install-location", "/"]);
    command.args(["--ownership", "recommended", "--root"]).arg(root).arg("--scripts").arg(scripts);
    run(command.arg(components.join(COMPONENT)))?;
    let description = components.join("Distribution");
    fs_err::write(&description, distribution)?;
    let mut command = Command::new("productbuild");
    command.arg("--distribution").arg(description).arg("--package-path").arg(&components);
    run(command.arg(package))?;
    Ok(fs_err::remove_dir_all(components)?)
}

/// For which processors a program is, as Installer names them (Apple, `mach-o/loader.h` and `mach-o/fat.h`).
fn processors(program: &[u8]) -> anyhow::Result<&'static str> {
    const ARM: u32 = 0x0100_000c;
    const INTEL: u32 = 0x0100_0007;
    let number = |at: usize| -> anyhow::Result<[u8; 4]> {
        Ok(program.get(at..at + 4).context("the program for macOS is too short")?.try_into()?)
    };
    let kinds: Vec<u32> = match u32::from_be_bytes(number(0)?) {
        0xcffa_edfe => vec![u32::from_le_bytes(number(4)?)],
        // A universal program: a count, and records of 20 bytes.
        0xcafe_babe => {
            let count = usize::try_from(u32::from_be_bytes(number(4)?))?.min(8);
            (0..count)
                .map(|index| Ok(u32::from_be_bytes(number(8 + index * 20)?)))
                .collect::<anyhow::Result<_>>()?
        }
        _ => bail!("it is no program for macOS (Mach-O of 64 bits)"),
    };
    match (kinds.contains(&ARM), kinds.contains(&INTEL)) {
        (true, true) => Ok("arm64,x86_64"),
        (true, false) => Ok("arm64"),
        (false, true) => Ok("x86_64"),
        (false, false) => bail!("the program for macOS is for neither arm64 nor x86_64"),
    }
}

/// The name of a path in an archive of a folder.
fn archived_name(folder: &Path, path: &Path) -> anyhow::Result<String> {
    let name = Path::new(".").join(path.strip_prefix(folder)?);
    Ok(name.to_str().context("names are of ASCII")?.trim_end_matches('/').to_owned())
}

/// Everything below a folder, of root, compressed (cpio in the portable format of POSIX.1). The archiver reads a list (mtree(5)), so that
/// nothing of this file system gets into it.
fn archive(folder: &Path, date: &str, compression: Compression) -> anyhow::Result<Vec<u8>> {
    let mut list = "#mtree\n".to_owned();
    let escaped = |text: &str| text.replace('\\', "\\134").replace(' ', "\\040").replace('#', "\\043");
    for (_, path) in paths_of(folder)? {
        let found = fs_err::metadata(&path)?;
        let mode = found.permissions().mode() & 0o7777;
        let kind = if found.is_dir() { "dir" } else { "file" };
        let name = escaped(&archived_name(folder, &path)?);
        write!(list, "{name} type={kind} mode={mode:o} uid=0 gid=0 time={date}")?;
        if found.is_file() {
            let path = escaped(path.to_str().context("paths are of Unicode")?);
            write!(list, " size={} contents={path}", found.len())?;
        }
        list.push('\n');
    }
    let specification = folder.with_extension("mtree");
    fs_err::write(&specification, list)?;
    let mut command = Command::new("bsdtar");
    command.args(["--create", "--format=odc", "--file=-"]).arg(format!("@{}", specification.display()));
    let output = command.output()?;
    ensure!(output.status.success(), "bsdtar: {}", String::from_utf8_lossy(&output.stderr));
    fs_err::remove_file(specification)?;
    let level = match compression {
        Compression::Best => flate2::Compression::best(),
        Compression::None => flate2::Compression::none(),
    };
    let mut compressed = flate2::write::GzEncoder::new(Vec::new(), level);
    compressed.write_all(&output.stdout)?;
    Ok(compressed.finish()?)
}

/// What Installer does with the component. Folders that are there keep their owners and modes.
fn package_info(version: &str, files: usize, kilobytes: &str) -> Vec<u8> {
    let attributes = [
        ("format-version", "2"),
        ("identifier", IDENTIFIER),
        ("version", version),
        ("install-location", "/"),
        ("auth", "root"),
        ("overwrite-permissions", "false"),
        ("relocatable", "false"),
        ("postinstall-action", "none"),
        ("generator-version", "cargo xtask dist"),
    ];
    document(|xml| {
        element(xml, "pkg-info", &attributes, |info| {
            empty(info, "payload", &[("numberOfFiles", &files.to_string()), ("installKBytes", kilobytes)])?;
            element(info, "scripts", &[], |scripts| {
                empty(scripts, "preinstall", &[("file", "./preinstall")])?;
                empty(scripts, "postinstall", &[("file", "./postinstall")])
            })
        })
    })
}

/// What Installer shows and asks before (Apple, "Distribution XML Reference"): nothing to choose, on the volume of the system only.
fn distribution(version: &str, kilobytes: &str, processors: &str) -> Vec<u8> {
    let title = format!("Steward {version}");
    document(|xml| {
        element(xml, "installer-gui-script", &[("minSpecVersion", "2")], |script| {
            text(script, "title", &[], &title)?;
            let options =
                [("customize", "never"), ("require-scripts", "false"), ("hostArchitectures", processors)];
            empty(script, "options", &options)?;
            let domains = [
                ("enable_anywhere", "false"),
                ("enable_currentUserHome", "false"),
                ("enable_localSystem", "true"),
            ];
            empty(script, "domains", &domains)?;
            // An expression of JavaScript: any volume that the rest allows.
            element(script, "volume-check", &[("script", "true")], |check| {
                element(check, "allowed-os-versions", &[], |versions| {
                    empty(versions, "os-version", &[("min", OLDEST)])
                })
            })?;
            empty(script, "product", &[("id", IDENTIFIER), ("version", version)])?;
            element(script, "choices-outline", &[], |outline| {
                empty(outline, "line", &[("choice", "default")])
            })?;
            element(script, "choice", &[("id", "default"), ("title", "Steward")], |choice| {
                empty(choice, "pkg-ref", &[("id", IDENTIFIER)])
            })?;
            let reference = [
                ("id", IDENTIFIER),
                ("version", version),
                ("onConclusion", "none"),
                ("auth", "root"),
                ("installKBytes", kilobytes),
            ];
            text(script, "pkg-ref", &reference, &format!("#{COMPONENT}"))
        })
    })
}

/// Builds the package and has it read by tools of others: 7-Zip, libarchive, and crates that read flat packages. The bytes have to be
/// the same when it is built again.
pub(super) fn check(of: &Package<'_>) -> anyhow::Result<PathBuf> {
    let &Package { version, folder, .. } = of;
    debian_packages(&[("7z", "p7zip-full"), ("shellcheck", "shellcheck"), ("xmllint", "libxml2-utils")])?;
    let package = build(of)?;
    let first = fs_err::read(&package)?;
    build(of)?;
    ensure!(fs_err::read(&package)? == first, "{} has other bytes when it is built again", package.display());
    let scripts = ["scripts/preinstall", "scripts/postinstall", "uninstall", "sign.sh", "verify.sh"];
    let scripts = scripts.map(|name| repository().join("packaging/macos").join(name));
    run(Command::new("shellcheck").args(scripts))?;

    run(Command::new("7z").arg("t").arg(&package).stdout(Stdio::null()))?;
    let product = folder.join("unpacked");
    fresh(&product)?;
    let unpack =
        |archive: &Path, into: &Path| run(Command::new("bsdtar").arg("-xf").arg(archive).arg("-C").arg(into));
    unpack(&package, &product)?;
    let component = product.join(COMPONENT);
    run(Command::new("xmllint")
        .arg("--noout")
        .arg(product.join("Distribution"))
        .arg(component.join("PackageInfo")))?;
    let payload = product.join("payload");
    fresh(&payload)?;
    unpack(&component.join("Payload"), &payload)?;
    run(Command::new("diff").arg("--recursive").arg(folder.join("pkg")).arg(&payload))?;
    ensure!(files_of(&payload)?.len() > 10, "the package has few files");

    let mut expected = vec![
        format!("product {IDENTIFIER} {version}"),
        format!("component {IDENTIFIER} {version}"),
        "preinstall ./preinstall".to_owned(),
        "postinstall ./postinstall".to_owned(),
    ];
    expected.extend([".", "./postinstall", "./preinstall"].map(|name| format!("script {name}")));
    let root = folder.join("pkg");
    for (_, path) in paths_of(&root)? {
        let data = fs_err::metadata(&path)?;
        let (size, sum) = if data.is_file() {
            let line = output(Command::new("cksum").arg(&path))?;
            (data.len(), line.split(' ').next().context("cksum prints a number")?.to_owned())
        } else {
            (0, "0".to_owned())
        };
        let name = archived_name(&root, &path)?;
        expected.push(format!("{:o} 0/0 {size} {sum} {name}", data.permissions().mode()));
    }
    let listed = read_by_others(&package)?;
    ensure!(
        listed.lines().eq(expected.iter().map(String::as_str)),
        "{listed}\nis not\n{}",
        expected.join("\n")
    );
    fs_err::remove_dir_all(product)?;
    Ok(package)
}

/// What the crates `apple-flat-package` and `apple-bom` find in a package.
fn read_by_others(package: &Path) -> anyhow::Result<String> {
    output(Command::new(tools::apple_tool("read-package")?).arg(package))
}
