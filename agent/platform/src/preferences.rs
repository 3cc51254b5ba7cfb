//! What a user chose for themselves, where policy leaves the choice: a source that no administrator writes, and that counts for
//! settings that a user may override only.

use policy_schema::raw::Source;

use crate::os::paths::PREFERENCES;
use crate::os::preferences;
use crate::paths::Paths;

/// Where a user's preferences are, for messages.
pub const WHERE: &str = PREFERENCES;

/// Reads the preferences of the user who runs this process; `None` if there are none.
#[must_use]
pub fn read(paths: &Paths) -> Option<Source> {
    let (name, contents) = preferences::read(paths)?;
    Some(Source { rank: 0, name, contents })
}
