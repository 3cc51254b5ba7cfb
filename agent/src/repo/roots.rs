//! The roots of a repository: signing them again, and replacing keys. Devices follow from root to root, so policy stays as it is.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use updates::signed::publish::{self as metadata, RoleKeys, Signer};

use super::keys::{Key, Keys, SigningCommand};
use super::{MAXIMUM_ROOT_KEYS, Part, ROLES, ROOT, Repository, in_days};

impl Repository {
    /// Signs everything again, the roots as well.
    pub(crate) fn renew_all(&self, passphrase: &str) -> anyhow::Result<()> {
        let keys = Keys::new(&self.folder, passphrase.to_owned())?;
        let (image, director, online) = (keys.load("image")?, keys.load("director")?, keys.load("online")?);
        for (part, own) in [(Part::Image, &image), (Part::Director, &director)] {
            self.next_root(part, &keys, None, |_| Ok(()))?;
            self.publish(part, Some((self.list(part)?, own)), &online)?;
        }
        Ok(())
    }

    /// Replaces a key by a new one, or by one that a command signs with: `image`, `director`, `online`, `root-1` ... The old one is not
    /// needed. Whoever has it can sign nothing any more that a device takes which has seen the new roots.
    pub(crate) fn replace_key(
        &self,
        name: &str,
        command: Option<&Path>,
        passphrase: &str,
    ) -> anyhow::Result<()> {
        let keys = Keys::new(&self.folder, passphrase.to_owned())?;
        let places = places(name).filter(|places| self.has_places(places)).with_context(|| {
            format!(
                "there is no key `{name}`; `steward repo status` shows the roots, and there are {}",
                ROLES.join(", ")
            )
        })?;
        // What the old key signed has to be signed again, at once.
        let online = match name {
            "image" | "director" => Some(keys.load("online")?),
            _ => None,
        };
        let next = format!("{name}.next");
        let is_interrupted = keys.has(&next);
        ensure!(
            !is_interrupted || command.is_none(),
            "the replacement of `{name}` was interrupted, and its new key may be in a root; finish that without --signer first"
        );
        let new = if is_interrupted {
            keys.load(&next)?
        } else {
            for part in places.iter().map(|(part, ..)| *part) {
                self.root_signers(part, &keys, None)?;
            }
            let command = command.map(SigningCommand::read).transpose()?;
            keys.make(&next, command.as_ref())?
        };
        let mut version = 0;
        for part in Part::ALL {
            let here: Vec<_> = places.iter().filter(|(of, ..)| *of == part).collect();
            let [root, ..] = self.roles(part)?;
            let roles = metadata::roles(&root.said)?;
            let is_new = |(_, role, index): &&(Part, &str, usize)| {
                let role = roles.iter().find(|known| known.role == *role);
                role.and_then(|role| role.keys.get(*index)) == Some(&new.public())
            };
            // A run before this one was interrupted after it.
            if here.iter().all(is_new) {
                continue;
            }
            let exchange = |roles: &mut Vec<RoleKeys>| {
                for (_, role, index) in here {
                    let found = roles.iter_mut().find(|known| known.role == *role);
                    let place = found.and_then(|role| role.keys.get_mut(*index));
                    *place.with_context(|| format!("there is no key `{name}`"))? = new.public();
                }
                Ok(())
            };
            version = version.max(self.next_root(part, &keys, Some(&new), exchange)?);
        }
        keys.exchange(name, &next, version)?;
        match (name, online) {
            ("image", Some(online)) => {
                self.publish(Part::Image, Some((self.list(Part::Image)?, &new)), &online)?;
                self.follow(Part::Image, &online)
            }
            ("director", Some(online)) => {
                self.publish(Part::Director, Some((self.list(Part::Director)?, &new)), &online)
            }
            // With another key, what the old one said of the time counts no more.
            ("online", _) => Part::ALL.iter().try_for_each(|part| self.publish_anyway(*part, None, &new)),
            // Devices see a new root with the next timestamp. Where its key is not here, that is the one of tomorrow.
            (_, _) if keys.has("online") => {
                let online = keys.load("online")?;
                Part::ALL.iter().try_for_each(|part| self.publish(*part, None, &online))
            }
            (_, _) => Ok(()),
        }
    }

    fn has_places(&self, places: &[(Part, &'static str, usize)]) -> bool {
        places.iter().all(|(part, role, index)| {
            let roles = self.roles(*part).ok().and_then(|[root, ..]| metadata::roles(&root.said).ok());
            let found = roles.and_then(|roles| roles.into_iter().find(|known| known.role == *role));
            found.is_some_and(|found| *index < found.keys.len())
        })
    }

    /// Publishes the next root, signed by enough keys of the one before and of its own. `new`: a key that takes the place of another. Gives
    /// the version of the root before.
    fn next_root(
        &self,
        part: Part,
        keys: &Keys,
        new: Option<&Key>,
        change: impl FnOnce(&mut Vec<RoleKeys>) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let [root, ..] = self.roles(part)?;
        let mut after = metadata::roles(&root.said)?;
        change(&mut after)?;
        let here = self.root_signers(part, keys, new.map(|_| &*after))?;
        let said = metadata::root(root.version + 1, in_days(ROOT), &after)?;
        let of_roots =
            |key: &Key| after.iter().any(|role| role.role == "root" && role.keys.contains(&key.public()));
        let new = new.filter(|key| of_roots(key) && here.iter().all(|other| other.public() != key.public()));
        let signers: Vec<&dyn Signer> = here.iter().chain(new).map(|key| key as &dyn Signer).collect();
        let name = format!("{}.root.json", root.version + 1);
        self.write(part, &name, &metadata::sign(&said, &signers)?)?;
        Ok(root.version)
    }

    /// The keys that sign the next root: enough of those of the present one.
    fn root_signers(&self, part: Part, keys: &Keys, after: Option<&[RoleKeys]>) -> anyhow::Result<Vec<Key>> {
        let [root, ..] = self.roles(part)?;
        let before = metadata::roles(&root.said)?;
        let of_root = |roles: &[RoleKeys]| roles.iter().find(|role| role.role == "root").cloned();
        let Some(role) = of_root(&before) else { bail!("the root names no keys of roots") };
        let names = (1..=MAXIMUM_ROOT_KEYS).map(|number| format!("root-{number}"));
        // The one that is replaced signs for the last time.
        let load = |name: String| if after.is_some() { keys.load_old(&name) } else { keys.load(&name) };
        let here: Vec<Key> = names.filter(|name| keys.has(name)).map(load).collect::<Result<_, _>>()?;
        let count = here.iter().filter(|key| role.keys.contains(&key.public())).count();
        ensure!(
            count >= role.threshold,
            "{count} of the keys of the roots are here, and {} have to sign; put their files back for as long as this takes",
            role.threshold
        );
        let later = after.and_then(of_root);
        let signs = |key: &Key| {
            let public = key.public();
            role.keys.contains(&public) || later.as_ref().is_some_and(|role| role.keys.contains(&public))
        };
        Ok(here.into_iter().filter(signs).collect())
    }
}

/// Where the roots name a key: in which repository, for which role, at which place.
fn places(name: &str) -> Option<Vec<(Part, &'static str, usize)>> {
    let both = |role, index| Part::ALL.map(|part| (part, role, index));
    Some(match name {
        "image" => vec![(Part::Image, "targets", 0)],
        "director" => vec![(Part::Director, "targets", 0)],
        "online" => [both("snapshot", 0), both("timestamp", 0)].concat(),
        _ => {
            let number: usize = name.strip_prefix("root-")?.parse().ok()?;
            both("root", number.checked_sub(1)?).into()
        }
    })
}
