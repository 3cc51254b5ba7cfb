//! Which version of an app is installed, as its bundle says.

use std::path::Path;

use policy_schema::raw::RawValue;
use policy_schema::read::{MAXIMUM_BYTES, property_list};

use crate::installed::App;
use crate::paths::Paths;

/// The version of the bundle in one of these folders (Apple, `CFBundleShortVersionString`). Packages say none here.
#[must_use]
pub fn installed_version(paths: &Paths, app: &App<'_>) -> Option<String> {
    app.folders.iter().find_map(|folder| {
        let information = paths.under_root(Path::new(folder)).join("Contents/Info.plist");
        let length = fs_err::metadata(&information).ok()?.len();
        let bytes = fs_err::read(&information).ok().filter(|_| length <= MAXIMUM_BYTES)?;
        let values = property_list::read(&bytes).ok()?.enforced;
        match values
            .get("CFBundleShortVersionString")
            .or_else(|| values.get("CFBundleVersion"))
            .map(|entry| &entry.value)
        {
            Some(RawValue::Str(version)) => Some(version.clone()),
            Some(_) | None => None,
        }
    })
}
