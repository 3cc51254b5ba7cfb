//! The macro with which each area declares its settings.

/// Declares the settings of one area. Each is a doc comment (what an administrator reads), then
/// `Key => field: Type = Setting::...;`, where `field: Type` is its part of [`super::Policy`].
///
/// A setting that is not optional must have a default: without one it does not compile.
macro_rules! settings {
    ($area:ident: $category:literal {
        $($(#[doc = $doc:literal])+ $key:ident => $field:ident: $type:ty = $setting:expr;)+
    }) => {
        /// The settings of this area, in the order of the reference.
        pub(super) const SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            category: $category,
            documentation: &[$($doc),+],
            ..$setting
        }),+];

        $(const _: () = assert!(
            super::always_has_value::<$type>(&$setting),
            concat!(stringify!($key), " needs a default, or an optional type")
        );)+

        area! { ($) $area { $($(#[doc = $doc])+ $key => $field: $type;)+ } }
    };
}
