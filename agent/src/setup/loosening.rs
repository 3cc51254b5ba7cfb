//! PURE: what a new policy allows that the one before it did not.
//!
//! In: two resolved policies. Out: a sentence for each setting that allows more. Called by `steward setup`, which does
//! not write such a policy by itself.

use std::collections::BTreeSet;

use policy_schema::settings::{AppSelfUpdate, DeviceFlow, SocialSignIn, VaultFallback};
use policy_schema::{Policy, Resolved};

/// Every setting that allows more than before, with what has changed.
pub(crate) fn loosenings(before: &Resolved, after: &Resolved) -> Vec<String> {
    let (old, new) = (&before.policy, &after.policy);
    let mut found = Vec::new();
    let mut check = |key: &str, loosens: bool| {
        let shown = |resolved: &Resolved| {
            let value = resolved.get(key).and_then(|setting| setting.value.as_ref());
            value.map_or_else(|| "not set".to_owned(), ToString::to_string)
        };
        if loosens {
            found.push(format!("`{key}`: {} before, {} now", shown(before), shown(after)));
        }
    };
    check("AllowedEmailDomains", allows_more_domains(old, new));
    check("SocialSignIn", is_weaker(old.social_sign_in, new.social_sign_in, &SocialSignIn::Blocked));
    check("AppSelfUpdate", updates_more(old.app_self_update, new.app_self_update));
    check("SessionMaximumHours", is_longer(old.session_maximum_hours, new.session_maximum_hours));
    check("AllowedApplications", allows_more_applications(old, new));
    check(
        "AdditionalTrustedCertificates",
        has_more(&old.additional_trusted_certificates, &new.additional_trusted_certificates),
    );
    let keyring = VaultFallback::Refuse;
    check("VaultFallback", old.vault_fallback == keyring && new.vault_fallback != keyring);
    check("DeviceFlow", old.device_flow == DeviceFlow::Never && new.device_flow != DeviceFlow::Never);
    check("ReportUrl", old.report_url.is_some() && new.report_url.is_none());
    check(
        "ReportEnrollmentToken",
        old.report_enrollment_token.is_some() && new.report_enrollment_token.is_none(),
    );
    check("UpdatePinnedVersion", old.update_pinned_version.is_some() && new.update_pinned_version.is_none());
    check(
        "UpdateMinimumVersion",
        old.update_minimum_version.is_some() && new.update_minimum_version.is_none(),
    );
    check("UpdateDeferDays", new.update_defer_days < old.update_defer_days);
    check("UpdateRolloutPercent", new.update_rollout_percent > old.update_rollout_percent);
    found
}

fn allows_more_domains(old: &Policy, new: &Policy) -> bool {
    match (&old.allowed_email_domains, &new.allowed_email_domains) {
        (Some(old), Some(new)) => has_more(old, new),
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// A program that had to be confirmed, and has not to be any more, counts; the other way round it does not.
fn allows_more_applications(old: &Policy, new: &Policy) -> bool {
    let list = |policy: &Policy, to_confirm: bool| -> Vec<String> {
        policy.applications(to_confirm).map(ToOwned::to_owned).collect()
    };
    let every = [list(old, false), list(old, true)].concat();
    has_more(&list(old, false), &list(new, false)) || has_more(&every, &list(new, true))
}

fn has_more(old: &[String], new: &[String]) -> bool {
    let fold =
        |items: &[String]| -> BTreeSet<String> { items.iter().map(|item| item.to_lowercase()).collect() };
    !fold(new).is_subset(&fold(old))
}

fn is_weaker<T: PartialEq>(old: Option<T>, new: Option<T>, strict: &T) -> bool {
    old.is_some_and(|old| old == *strict) && new.is_none_or(|new| new != *strict)
}

fn updates_more(old: Option<AppSelfUpdate>, new: Option<AppSelfUpdate>) -> bool {
    let rank = |mode: Option<AppSelfUpdate>| match mode {
        Some(AppSelfUpdate::None) => 0,
        Some(AppSelfUpdate::PatchOnly) => 1,
        Some(AppSelfUpdate::MinorAndPatch) => 2,
        Some(AppSelfUpdate::All) => 3,
        // The app decides.
        None => 4,
    };
    rank(new) > rank(old)
}

fn is_longer(old: Option<u32>, new: Option<u32>) -> bool {
    old.is_some_and(|old| new.is_none_or(|new| new > old))
}

#[cfg(test)]
mod tests {
    use policy_schema::raw::Source;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;

    fn of(before: &str, after: &str) -> Vec<String> {
        let resolved = |text: &str| {
            let contents = drop_in::read(format!("# policy\n{text}").as_bytes());
            resolve(&[Source { rank: 1, name: "test".to_owned(), contents }], &LastGood::default())
        };
        loosenings(&resolved(before), &resolved(after))
    }

    #[test]
    fn each_restriction_that_is_dropped_or_widened_is_named() {
        for (before, after) in [
            ("AllowedEmailDomains = [\"a.example\"]", ""),
            ("AllowedEmailDomains = [\"a.example\"]", "AllowedEmailDomains = [\"a.example\", \"b.example\"]"),
            ("AllowedEmailDomains = []", "AllowedEmailDomains = [\"a.example\"]"),
            ("SocialSignIn = \"blocked\"", "SocialSignIn = \"allowed\""),
            ("SocialSignIn = \"blocked\"", ""),
            ("AppSelfUpdate = \"none\"", "AppSelfUpdate = \"patch-only\""),
            ("SessionMaximumHours = 8", "SessionMaximumHours = 9"),
            ("SessionMaximumHours = 8", ""),
            ("", "AllowedApplications = [\"/usr/bin/curl\"]"),
            ("", "AllowedApplications = [\"confirm:/usr/bin/curl\"]"),
            (
                "AllowedApplications = [\"confirm:/usr/bin/curl\"]",
                "AllowedApplications = [\"/usr/bin/curl\"]",
            ),
            ("", "VaultFallback = \"encrypted-file\""),
            ("ReportUrl = \"https://r.example/\"", ""),
            ("UpdatePinnedVersion = \"2.0.0\"", ""),
            ("UpdateRolloutPercent = 10", ""),
        ] {
            assert_eq!(of(before, after).len(), 1, "{before} -> {after}");
            assert_eq!(of(before, before), Vec::<String>::new(), "{before}");
        }
        for (before, after) in [
            (
                "AllowedApplications = [\"/usr/bin/curl\"]",
                "AllowedApplications = [\"confirm:/usr/bin/curl\"]",
            ),
            ("AllowedEmailDomains = [\"A.example\", \"b.example\"]", "AllowedEmailDomains = [\"a.example\"]"),
            ("", "AllowedEmailDomains = [\"a.example\"]"),
            ("", "SocialSignIn = \"allowed\""),
            ("SessionMaximumHours = 8", "SessionMaximumHours = 4"),
            ("OrganizationName = \"A\"", ""),
        ] {
            assert_eq!(of(before, after), Vec::<String>::new(), "{before} -> {after}");
        }
    }
}
