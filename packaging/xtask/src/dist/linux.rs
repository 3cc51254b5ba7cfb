//! deb and rpm, built by the tools of Debian and of RPM from one folder of files ([`super::stage`]).

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::stage::{Family, compress, stage};
use super::{Compression, Package, fresh, source_date};
use crate::tools::{debian_packages, files_of, output, repository, run};

const SUMMARY: &str = "fleet agent: policy, sign-in and health for desktop apps";
const DESCRIPTION: [&str; 4] = [
    "Steward reads the policy that administrators push, configures the managed",
    "desktop app, keeps it up to date, signs users in at the identity provider",
    "of their organisation, and reports the health of the device to compliance",
    "dashboards.",
];
const HOMEPAGE: &str = "https://steward.dev";
const MAINTAINER: &str = "The Steward developers <developers@steward.dev>";
const SCRIPTS: &str = "packaging/linux";

/// The processors that there are packages for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processor {
    /// That of this machine.
    Own,
    /// ARM of 64 bits, from another machine.
    Arm64,
}

impl Processor {
    fn debian(self) -> anyhow::Result<String> {
        match self {
            Self::Own => output(Command::new("dpkg").arg("--print-architecture")),
            Self::Arm64 => Ok("arm64".to_owned()),
        }
    }

    fn rpm(self) -> &'static str {
        match self {
            Self::Own => std::env::consts::ARCH,
            Self::Arm64 => "aarch64",
        }
    }
}

/// Builds both packages and gives their paths.
pub(super) fn build(package: &Package<'_>, processor: Processor) -> anyhow::Result<Vec<PathBuf>> {
    debian_packages(&[("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev"), ("rpmbuild", "rpm")])?;
    let date = source_date()?;
    Ok(vec![deb(package, processor, &date)?, rpm(package, processor, &date)?])
}

/// Builds the package for Debian and its descendants.
fn deb(package: &Package<'_>, processor: Processor, date: &str) -> anyhow::Result<PathBuf> {
    let &Package { program, native, version, folder, compression } = package;
    let root = folder.join("deb");
    // Both package managers order what comes before a release by a tilde; a dash would come after it.
    let version = &version.replace('-', "~");
    stage(program, native, Family::Debian, &root)?;
    let documents = root.join("usr/share/doc/steward");
    let day = output(Command::new("date").args(["--utc", "--rfc-email", &format!("--date=@{date}")]))?;
    let changelog = documents.join("changelog");
    fs_err::write(
        &changelog,
        format!(
            "steward ({version}) stable; urgency=medium\n\n  * See the changes for administrators.\n\n -- {MAINTAINER}  {day}\n"
        ),
    )?;
    compress(&changelog)?;
    fs_err::write(documents.join("copyright"), copyright()?)?;
    let overrides = root.join("usr/share/lintian/overrides");
    fs_err::create_dir_all(&overrides)?;
    fs_err::copy(repository().join("packaging/linux/lintian.overrides"), overrides.join("steward"))?;

    let control = root.join("DEBIAN");
    fs_err::create_dir(&control)?;
    fs_err::set_permissions(&control, Permissions::from_mode(0o755))?;
    let size: u64 = files_of(&root)?.iter().map(|file| file.metadata().map_or(0, |data| data.len())).sum();
    let architecture = processor.debian()?;
    let libraries = match processor {
        Processor::Own => libraries(&root, folder)?,
        Processor::Arm64 => libraries_of_others(program)?,
    };
    let description: String = DESCRIPTION.iter().fold(String::new(), |text, line| text + " " + line + "\n");
    fs_err::write(
        control.join("control"),
        format!(
            "Package: steward\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\n\
             Installed-Size: {}\nDepends: {libraries}, ca-certificates, init-system-helpers (>= 1.52), systemd (>= 247)\n\
             Recommends: libsecret-1-0 | gnome-keyring, xdg-utils\n\
             Section: admin\nPriority: optional\nHomepage: {HOMEPAGE}\nDescription: {SUMMARY}\n{description}",
            size.div_ceil(1024)
        ),
    )?;
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        fs_err::copy(repository().join(SCRIPTS).join("deb").join(script), control.join(script))?;
        fs_err::set_permissions(control.join(script), Permissions::from_mode(0o755))?;
    }
    let mut sums = String::new();
    for file in files_of(&root.join("usr"))? {
        let sum = output(Command::new("md5sum").arg(file.strip_prefix(&root)?).current_dir(&root))?;
        writeln!(sums, "{sum}")?;
    }
    fs_err::write(control.join("md5sums"), sums)?;
    let mut configuration = String::new();
    for file in files_of(&root.join("etc"))? {
        writeln!(configuration, "/{}", file.strip_prefix(&root)?.display())?;
    }
    fs_err::write(control.join("conffiles"), configuration)?;
    for file in ["control", "md5sums", "conffiles"] {
        fs_err::set_permissions(control.join(file), Permissions::from_mode(0o644))?;
    }

    let package = folder.join(format!("steward_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    let method: &[&str] = match compression {
        Compression::Best => &["-Zxz", "-z9"],
        Compression::None => &["-Znone"],
    };
    build.arg("--root-owner-group").args(method).arg("--build").arg(&root).arg(&package);
    run(build.env("SOURCE_DATE_EPOCH", date).stdout(std::process::Stdio::null()))?;
    Ok(package)
}

/// Which versions of which libraries the program needs, as Debian names them.
fn libraries(root: &Path, folder: &Path) -> anyhow::Result<String> {
    let source = folder.join("shlibdeps");
    fresh(&source.join("debian"))?;
    fs_err::write(source.join("debian/control"), "Source: steward\n\nPackage: steward\nArchitecture: any\n")?;
    let program = root.join("usr/bin/steward");
    let found = output(Command::new("dpkg-shlibdeps").arg("-O").arg(program).current_dir(&source))?;
    fs_err::remove_dir_all(source)?;
    Ok(found.strip_prefix("shlibs:Depends=").context("dpkg-shlibdeps names no libraries")?.to_owned())
}

/// The same of a program for another processor, whose libraries are not here: by the versions of symbols that it needs of glibc.
fn libraries_of_others(program: &Path) -> anyhow::Result<String> {
    let symbols = output(Command::new("objdump").arg("--private-headers").arg(program))?;
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let version = rest.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next()?;
        version.split('.').map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()
    });
    let newest = versions.max().context("the program needs no glibc")?;
    let newest: Vec<String> = newest.iter().map(u32::to_string).collect();
    Ok(format!("libc6 (>= {}), libgcc-s1 (>= 4.2)", newest.join(".")))
}

/// Who may do what with it (Debian's machine-readable format).
fn copyright() -> anyhow::Result<String> {
    let indented = |text: &str| -> String {
        let lines = text.trim().lines().map(|line| if line.trim().is_empty() { " ." } else { line });
        lines.fold(String::new(), |text, line| {
            text + if line.starts_with(' ') { "" } else { " " } + line + "\n"
        })
    };
    let mit = fs_err::read_to_string(repository().join("LICENSE-MIT"))?;
    let holder =
        mit.lines().find(|line| line.starts_with("Copyright")).context("LICENSE-MIT names nobody")?;
    let terms = mit.split_once(holder).map_or("", |(_, terms)| terms);
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Steward\n\n\
         Files: *\nCopyright: {}\nLicense: MIT or Apache-2.0\n\nLicense: MIT\n{}\nLicense: Apache-2.0\n \
         On Debian systems, the full text is in /usr/share/common-licenses/Apache-2.0.\n",
        holder.trim_start_matches("Copyright (c) "),
        indented(terms)
    ))
}

/// Builds the package for distributions with RPM.
fn rpm(package: &Package<'_>, processor: Processor, date: &str) -> anyhow::Result<PathBuf> {
    let &Package { program, native, version, folder, compression } = package;
    let root = folder.join("rpm");
    stage(program, native, Family::Fedora, &root)?;
    let licences = root.join("usr/share/licenses/steward");
    fs_err::create_dir_all(&licences)?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        fs_err::copy(repository().join(licence), licences.join(licence))?;
    }
    let build = folder.join("rpmbuild");
    fresh(&build)?;
    let script = |name: &str| fs_err::read_to_string(repository().join(SCRIPTS).join("rpm").join(name));
    let mut files = String::new();
    for file in files_of(&root)? {
        let path = file.strip_prefix(&root)?.display().to_string();
        let kind = match path.as_str() {
            path if path.starts_with("usr/share/doc/") || path.starts_with("usr/share/man/") => "%doc ",
            path if path.starts_with("usr/share/licenses/") => "%license ",
            path if path.starts_with("etc/") => "%config(noreplace) ",
            _ => "",
        };
        writeln!(files, "{kind}/{path}")?;
    }
    for folder in ["usr/share/doc/steward", "usr/share/licenses/steward"] {
        writeln!(files, "%dir /{folder}")?;
    }
    let version = version.replace('-', "~");
    let spec = build.join("steward.spec");
    fs_err::write(
        &spec,
        format!(
            "Name: steward\nVersion: {version}\nRelease: 1\nSummary: {}\nLicense: MIT OR Apache-2.0\nURL: {HOMEPAGE}\n\
             Vendor: The Steward developers\nPackager: {MAINTAINER}\nGroup: System/Management\nRequires: systemd >= 247\nRequires: ca-certificates\n\
             Requires(pre): coreutils\nRequires(post): systemd\nRequires(preun): systemd\nRequires(postun): systemd\n\
             %description\n{}\n%install\ncp -a {}/. %{{buildroot}}\n\
             %pre\n{}%post\n{}%preun\n{}%postun\n{}%files\n%defattr(-,root,root)\n{files}\
             %changelog\n* {} {MAINTAINER} - {version}-1\n- See the changes for administrators\n",
            capitalized(SUMMARY),
            DESCRIPTION.join("\n"),
            root.display(),
            // In a scriptlet a percent sign begins a macro.
            script("pre.sh")?.replace("@VERSION@", &version).replace('%', "%%"),
            script("post.sh")?,
            script("preun.sh")?,
            script("postun.sh")?,
            output(
                Command::new("date")
                    .args(["--utc", "+%a %b %d %Y", &format!("--date=@{date}")])
                    .env("LC_ALL", "C")
            )?,
        ),
    )?;
    let payload = match compression {
        Compression::Best => "w19.zstdio",
        Compression::None => "w1.gzdio",
    };
    let mut command = Command::new("rpmbuild");
    command.args(["-bb", "--quiet", "--target", processor.rpm()]);
    for (name, value) in [
        ("_topdir", build.display().to_string()),
        ("_rpmdir", build.join("RPMS").display().to_string()),
        ("_build_name_fmt", "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm".to_owned()),
        ("_buildhost", "localhost".to_owned()),
        ("_binary_payload", payload.to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("source_date_epoch_from_changelog", "0".to_owned()),
        ("__os_install_post", "%{nil}".to_owned()),
        ("debug_package", "%{nil}".to_owned()),
    ] {
        command.arg("--define").arg(format!("{name} {value}"));
    }
    run(command.arg(&spec).env("SOURCE_DATE_EPOCH", date))?;
    let name = format!("steward-{version}-1.{}.rpm", processor.rpm());
    let package = folder.join(&name);
    fs_err::rename(build.join("RPMS").join(&name), &package)?;
    fs_err::remove_dir_all(build)?;
    Ok(package)
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Builds the packages and has them read by tools of others. Gives their paths.
pub(super) fn check(package: &Package<'_>, processor: Processor) -> anyhow::Result<Vec<PathBuf>> {
    debian_packages(&[("lintian", "lintian"), ("rpmlint", "rpmlint"), ("systemd-analyze", "systemd")])?;
    let packages = build(package, processor)?;
    let first: Vec<Vec<u8>> = packages.iter().map(fs_err::read).collect::<Result<_, _>>()?;
    let again = build(package, processor)?;
    for (package, before) in again.iter().zip(&first) {
        ensure!(
            fs_err::read(package)? == *before,
            "{} has other bytes when it is built again",
            package.display()
        );
    }
    for unit in ["steward-agent", "steward-update"] {
        let file = repository().join(format!("packaging/linux/{unit}.service"));
        let threshold = if unit == "steward-agent" { "--threshold=20" } else { "--threshold=25" };
        let mut command = Command::new("systemd-analyze");
        let analyzed =
            output(command.args(["security", "--no-pager", "--offline=yes", threshold]).arg(file))?;
        println!("{}", analyzed.lines().last().unwrap_or_default());
    }
    if processor == Processor::Own {
        audited(package.program, package.folder)?;
    }
    let [deb, rpm] = packages.as_slice() else { anyhow::bail!("there are two packages") };
    run(Command::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]).arg(deb))?;
    run(Command::new("rpmlint")
        .arg("--config")
        .arg(repository().join("packaging/linux/rpmlint.toml"))
        .arg(rpm))?;
    run(Command::new("rpm").args(["--checksig", "--nosignature"]).arg(rpm))?;
    Ok(packages)
}

/// Reads the list of libraries in a program as scanners do: JSON, compressed with zlib, in a section.
fn audited(binary: &Path, folder: &Path) -> anyhow::Result<()> {
    let section = folder.join("libraries.zlib");
    let mut command = Command::new("objcopy");
    command.arg(format!("--dump-section=.dep-v0={}", section.display())).arg(binary).arg("/dev/null");
    run(&mut command)?;
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(fs_err::File::open(&section)?).read_to_string(&mut text)?;
    fs_err::remove_file(section)?;
    for library in ["agent", "openidconnect", "ring", "rustls"] {
        ensure!(
            text.contains(&format!("\"name\":\"{library}\"")),
            "the program does not list {library}: {text}"
        );
    }
    Ok(())
}
