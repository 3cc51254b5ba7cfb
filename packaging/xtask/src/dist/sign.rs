//! Signatures of programs and packages by a command of whoever publishes them, and their verification by a tool of others.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::tools::{self, debian_packages, output, run};

/// How Apple's tool verifies a program: for every processor, and by a certificate that Apple issued, which the linker's own signature
/// lacks.
const BY_APPLE: [&str; 4] = ["--verify", "--strict", "--all-architectures", "-R=anchor apple generic"];

/// Who signs.
#[derive(Debug, clap::Args)]
pub(crate) struct Signer {
    /// Sign programs and packages for Windows and macOS: a command for the shell, which gets the path of a file as its last argument
    /// and signs it in place. It must exit with 0; the signature is verified afterwards.
    #[arg(long = "sign", value_name = "COMMAND", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    command: Option<String>,
    /// The certificates that signatures for Windows must lead to, in PEM; by default those of the system.
    #[arg(long, value_name = "FILE", requires = "command")]
    trust: Option<PathBuf>,
}

impl Signer {
    /// A copy of a program, signed, in a folder.
    pub(super) fn signed(&self, program: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
        if self.command.is_none() {
            return Ok(program.to_owned());
        }
        fs_err::create_dir_all(folder)?;
        let copy = folder.join(program.file_name().context("a program has a name")?);
        fs_err::copy(program, &copy)?;
        self.sign(&copy)?;
        Ok(copy)
    }

    /// Signs a file, and verifies the signature.
    pub(super) fn sign(&self, file: &Path) -> anyhow::Result<()> {
        let Some(command) = &self.command else { return Ok(()) };
        let line = format!("{command} \"$0\"");
        // Paths in it are those of the caller.
        run(Command::new("sh").args(["-c", &line]).arg(file).current_dir(std::env::current_dir()?))?;
        self.verify(file).with_context(|| format!("the signature of {}", file.display()))
    }

    /// Verifies a signature: the digest, and for Windows who signed.
    fn verify(&self, file: &Path) -> anyhow::Result<()> {
        let bytes = fs_err::read(file)?;
        match bytes.get(..4).context("it is too short")? {
            // Programs for Windows, and compound files, such as msi.
            [b'M', b'Z', ..] | [0xd0, 0xcf, 0x11, 0xe0] => {
                debian_packages(&[("osslsigncode", "osslsigncode")])?;
                let mut command = Command::new("osslsigncode");
                command.arg("verify");
                if let Some(trust) = &self.trust {
                    command.arg("-CAfile").arg(trust);
                }
                output(command.arg("-in").arg(file)).map(drop)
            }
            [0xcf, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe] if std::env::consts::OS == "macos" => {
                output(Command::new("codesign").args(BY_APPLE).arg(file)).map(drop)
            }
            b"xar!" if std::env::consts::OS == "macos" => {
                output(Command::new("pkgutil").arg("--check-signature").arg(file)).map(drop)
            }
            [0xcf, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe] => {
                let tool = tools::apple_tool("rcodesign")?;
                output(Command::new(&tool).arg("verify").arg(file))?;
                // It finds nothing wrong with a program that has no signature.
                let found = output(Command::new(tool).arg("print-signature-info").arg(file))?;
                ensure!(found.contains("signature_verifies: true"), "{found}");
                Ok(())
            }
            b"xar!" => {
                let found = output(
                    Command::new(tools::apple_tool("rcodesign")?).arg("print-signature-info").arg(file),
                )?;
                for expected in [
                    "checksum_verifies: true",
                    "rsa_signature_verifies: true",
                    "cms_signature_verifies: true",
                ] {
                    ensure!(found.contains(expected), "{expected} is missing in {found}");
                }
                Ok(())
            }
            _ => bail!("it is neither a program nor a package for Windows or macOS"),
        }
    }
}

/// A signer with a certificate that is thrown away: `osslsigncode` for Windows, `rcodesign` for macOS.
pub(super) fn throw_away(folder: &Path) -> anyhow::Result<Signer> {
    debian_packages(&[("openssl", "openssl"), ("osslsigncode", "osslsigncode")])?;
    fs_err::create_dir_all(folder)?;
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=Throw-away", "-addext", "extendedKeyUsage=critical,codeSigning"]);
    command.args(["-addext", "keyUsage=critical,digitalSignature", "-keyout"]).arg(&key);
    output(command.arg("-out").arg(&certificate))?;
    let both = folder.join("both.pem");
    fs_err::write(&both, [fs_err::read(&certificate)?, fs_err::read(&key)?].concat())?;
    let script = folder.join("sign.sh");
    let (key, trust, both) = (key.display(), certificate.display(), both.display());
    let rcodesign = tools::apple_tool("rcodesign")?;
    let rcodesign = rcodesign.display();
    fs_err::write(
        &script,
        format!(
            "set -eu\ncase \"$1\" in\n*.exe|*.msi)\n  osslsigncode sign -h sha256 -certs '{trust}' -key '{key}' -n Steward \
             -in \"$1\" -out \"$1.signed\"\n  mv \"$1.signed\" \"$1\" ;;\n*)\n  '{rcodesign}' sign --timestamp-url none \
             --pem-file '{both}' \"$1\" ;;\nesac >/dev/null 2>&1\n"
        ),
    )?;
    Ok(Signer { command: Some(format!("sh '{}'", script.display())), trust: Some(certificate) })
}

/// What has no signature, or was changed since it got one, must not pass for signed.
pub(super) fn refuses_others(signer: &Signer, without: &[PathBuf], with: &[PathBuf]) -> anyhow::Result<()> {
    for file in without {
        ensure!(signer.verify(file).is_err(), "{} passes for signed", file.display());
    }
    for file in with {
        let mut bytes = fs_err::read(file)?;
        // The signature of a flat package is about its table of contents, which is at the beginning.
        let place = if bytes.starts_with(b"xar!") { 64 } else { bytes.len() / 2 };
        *bytes.get_mut(place).context("it is too short")? ^= 1;
        let changed = file.with_extension("changed");
        fs_err::write(&changed, bytes)?;
        ensure!(signer.verify(&changed).is_err(), "{} passes for signed after a change", file.display());
        fs_err::remove_file(changed)?;
    }
    Ok(())
}
