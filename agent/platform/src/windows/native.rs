//! The policies that an app reads from the operating system itself: values of a key below `HKLM\SOFTWARE\Policies`.

use std::collections::BTreeMap;
use std::io;

use policy_schema::raw::RawValue;
use policy_schema::read::registry as read_registry;
use windows_registry::{Key, LOCAL_MACHINE};

use super::registry::{KeyWatch, is_absent, open, open_above, values};
use crate::paths::Paths;

/// Values by name.
pub type Values = BTreeMap<String, RawValue>;

/// The values of a key. One that does not exist has none.
///
/// # Errors
/// They cannot be read.
pub fn read(paths: &Paths, location: &str) -> io::Result<Values> {
    match LOCAL_MACHINE.open(paths.key(subkey(location)?)) {
        Ok(key) => Ok(values(&key)?
            .into_iter()
            .map(|value| (value.name.clone(), read_registry::value(&value)))
            .collect()),
        Err(error) if is_absent(error.code().0) => Ok(Values::new()),
        Err(error) => Err(error.into()),
    }
}

/// Sets and removes values of a key. One that does not exist is created.
///
/// # Errors
/// The system refused, or a value has a type that the registry does not have.
pub fn write(paths: &Paths, location: &str, values: &Values, removed: &[String]) -> io::Result<()> {
    let key = LOCAL_MACHINE.create(paths.key(subkey(location)?))?;
    for (name, value) in values {
        set(&key, name, value)?;
    }
    for name in removed {
        match key.remove_value(name) {
            Err(error) if !is_absent(error.code().0) => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// A watch over the key that an app reads. It calls `nudge` when a value there may have changed.
pub struct Watch {
    watch: Option<KeyWatch>,
}

impl Watch {
    /// Makes a watch that calls `nudge` from a thread of its own. Nothing is watched before [`Watch::arm`]. Without a watch, the
    /// slow poll finds what has changed.
    #[must_use]
    pub fn new(nudge: impl Fn() + Send + 'static) -> Self {
        Self { watch: KeyWatch::new(nudge).ok() }
    }

    /// Watches the key at a location; one that is no key is not watched. Call it before each look at the key.
    pub fn arm(&mut self, paths: &Paths, location: Option<&str>) {
        let Some(watch) = &mut self.watch else { return };
        match location.and_then(|location| subkey(location).ok()).map(|key| paths.key(key)) {
            Some(key) => watch.arm(|| open(key.clone()), || open_above(&key)),
            None => watch.arm(|| Ok(None), || Ok(None)),
        }
    }
}

fn set(key: &Key, name: &str, value: &RawValue) -> io::Result<()> {
    match value {
        RawValue::Bool(value) => key.set_u32(name, u32::from(*value))?,
        RawValue::Int(number) => {
            key.set_u32(name, u32::try_from(*number).map_err(io::Error::other)?)?;
        }
        RawValue::Str(text) => key.set_string(name, text)?,
        RawValue::List(items) => {
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            key.set_multi_string(name, &items)?;
        }
        RawValue::Table(_) | RawValue::Other(_) => {
            return Err(io::Error::other(format!("{name}: the registry has no {}", value.kind_name())));
        }
    }
    Ok(())
}

/// A key of the machine's part of the registry, the only one that counts, from the name that administrators use.
fn subkey(location: &str) -> io::Result<&str> {
    location
        .strip_prefix(r"HKLM\")
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{location} is not below HKLM")))
}
