//! Patches between two consecutive versions of real programs, beside other ways to send the later one: bytes, and what it costs a device to
//! have it. The programs are in the folders of `STEWARD_PAIRS`, as `old` and `new`.

use std::io::BufWriter;
use std::path::Path;

use anyhow::Context as _;
use platform::environment;
use tokio::process::Command;
use updates::patch;

/// A way to send a version: its name, what makes the file that is sent, and what a device does with it. `OLD`, `NEW`, `SENT` and `MADE` stand
/// for files.
type Way = (&'static str, &'static str, &'static str);

const WAYS: [Way; 4] = [
    ("the whole, zstd -19", "zstd -q -19 NEW -o SENT", "zstd -q -d SENT -o MADE"),
    (
        "zstd -19 --patch-from",
        "zstd -q -19 --long=31 --patch-from=OLD NEW -o SENT",
        "zstd -q -d --long=31 --patch-from=OLD SENT -o MADE",
    ),
    ("xdelta3 -9", "xdelta3 -e -9 -S djw -s OLD NEW SENT", "xdelta3 -d -s OLD SENT MADE"),
    ("a patch of ours", "OURS make-patch OLD NEW SENT", "OURS apply-patch OLD SENT NEW MADE"),
];

/// Prints the table.
pub(super) async fn print() -> anyhow::Result<()> {
    let pairs = environment::variable("STEWARD_PAIRS").context("run `cargo xtask bench patch`")?;
    let mut folders: Vec<_> = fs_err::read_dir(pairs)?.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        let bytes = fs_err::metadata(folder.join("new"))?.len();
        println!("\n{}, {bytes} bytes", folder.file_name().unwrap_or_default().to_string_lossy());
        println!("{:<24} {:>12} {:>8} {:>14} {:>14}", "", "bytes", "share", "apply, CPU s", "apply, MiB");
        for (name, make, apply) in WAYS {
            let (sent, made) = (folder.join("sent"), folder.join("made"));
            for file in [&sent, &made] {
                platform::file::remove(file)?;
            }
            measure(&folder, make).await?;
            let (seconds, mebibytes) = measure(&folder, apply).await?;
            anyhow::ensure!(
                fs_err::read(&made)? == fs_err::read(folder.join("new"))?,
                "{name}: another file"
            );
            let length = fs_err::metadata(&sent)?.len();
            #[expect(clippy::cast_precision_loss, reason = "a share is shown with one decimal")]
            let share = 100.0 * length as f64 / bytes as f64;
            println!("{name:<24} {length:>12} {share:>6.1} % {seconds:>14.2} {mebibytes:>14}");
        }
    }
    Ok(())
}

/// Runs a command of a way; gives its seconds of CPU and its peak memory in MiB.
async fn measure(folder: &Path, line: &str) -> anyhow::Result<(f64, u64)> {
    let own = std::env::current_exe()?;
    let path = |word: &str| match word {
        "OURS" => own.display().to_string(),
        "OLD" | "NEW" | "SENT" | "MADE" => folder.join(word.to_ascii_lowercase()).display().to_string(),
        word => match word.strip_suffix("=OLD") {
            Some(option) => format!("{option}={}", folder.join("old").display()),
            None => word.to_owned(),
        },
    };
    let output =
        Command::new("time").args(["-f", "%U %S %M"]).args(line.split(' ').map(path)).output().await?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{line}: {printed}");
    let last = printed.lines().last().unwrap_or_default().to_owned();
    let numbers: Vec<f64> = last.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [user, system, kilobytes] = numbers[..] else { anyhow::bail!("`time` printed {printed}") };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number")]
    let mebibytes = (kilobytes / 1024.0).ceil() as u64;
    Ok((user + system, mebibytes))
}

pub(super) fn make(old: &str, new: &str, sent: &str) -> anyhow::Result<()> {
    Ok(fs_err::write(sent, patch::make(&fs_err::read(old)?, &fs_err::read(new)?)?)?)
}

/// `like`: what is made has its length.
pub(super) fn apply(old: &str, sent: &str, like: &str, made: &str) -> anyhow::Result<()> {
    let made = BufWriter::new(fs_err::File::create(made)?);
    let length = fs_err::metadata(like)?.len();
    Ok(patch::apply(fs_err::File::open(old)?, fs_err::File::open(sent)?, made, length)?)
}
