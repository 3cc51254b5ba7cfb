//! The place of a device in the rollout of a release.

use ring::digest;

/// From 0 to 9999, the same at every check of the release. Raising the share of devices therefore adds devices and takes none
/// away. The salt gives each release another order, so that the same devices are not always the first.
pub(crate) fn bucket(device: &str, app: &str, salt: &str) -> u32 {
    let digest = digest::digest(&digest::SHA256, format!("{device}|{app}|{salt}").as_bytes());
    let head = digest.as_ref().iter().take(8);
    let number = head.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(number % 10_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_kept_forever() {
        // Devices in the field have these places: another computation would shuffle running rollouts.
        let cases = [("device-1", "2.0.0"), ("device-2", "2.0.0"), ("device-1", "2.0.1")];
        let places = cases.map(|(device, salt)| bucket(device, "app", salt));
        assert_eq!(places, [195, 266, 8815]);
    }

    #[test]
    fn places_are_spread_evenly() {
        let within = (0..10_000).filter(|id| bucket(&format!("device-{id}"), "app", "1.0.0") < 1_000).count();
        assert!((900..1_100).contains(&within), "{within}");
    }
}
