//! Prints what a flat package for macOS has in it, as crates of others read it: the product, its components with their scripts, and
//! the paths of their bills of materials with modes and owners.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::File;

use apple_bom::ParsedBom;
use apple_flat_package::package_info::Script;
use apple_flat_package::{PkgFlavor, PkgReader};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: read-package FILE")?;
    let mut package = PkgReader::new(File::open(path)?)?;
    if package.flavor() == PkgFlavor::Product {
        let distribution = package.distribution()?.ok_or("no Distribution")?;
        let product = distribution.product.ok_or("no product")?;
        println!("product {} {}", product.id, product.version.unwrap_or_default());
    }
    for component in package.component_packages()? {
        let info = component.package_info().ok_or("no PackageInfo")?;
        println!("component {} {}", info.identifier, info.version);
        for script in &info.scripts.scripts {
            match script {
                Script::PreInstall(script) => println!("preinstall {}", script.file),
                Script::PostInstall(script) => println!("postinstall {}", script.file),
            }
        }
        if let Some(mut scripts) = component.scripts_reader()? {
            while let Some(header) = scripts.read_next()? {
                println!("script {}", header.name());
            }
        }
        let mut archived = Vec::new();
        if let Some(mut payload) = component.payload_reader()? {
            while let Some(header) = payload.read_next()? {
                archived.push(header.name().to_owned());
            }
        }
        let bom = ParsedBom::parse(component.bom().ok_or("no Bom")?)?;
        let listed = bom.paths()?;
        let mut names: Vec<&str> = listed.iter().map(|path| path.path()).collect();
        names.sort_unstable();
        archived.sort_unstable();
        if names != archived {
            return Err(format!("the Bom lists {names:?}, the payload has {archived:?}").into());
        }
        for path in &listed {
            let sum = path.crc32().unwrap_or_default();
            println!(
                "{:o} {}/{} {} {sum} {}",
                path.file_mode(),
                path.user_id(),
                path.group_id(),
                path.size(),
                path.path()
            );
        }
    }
    Ok(())
}
