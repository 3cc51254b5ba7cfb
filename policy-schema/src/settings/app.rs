//! The managed app.

use super::Setting;
use super::choices::{AppSelfUpdate, SocialSignIn};
use crate::value::{Format, Literal};

settings! {
    app: "App" {
        /// App
        ///
        /// The name of the app to manage.
        App => app: String = Setting::text(Format::Name, "amazon-quick").default(Literal::Text("amazon-quick"));
        /// Social sign-in
        ///
        /// Whether the app offers sign-in with personal accounts. Unset, the app decides.
        SocialSignIn => social_sign_in: Option<SocialSignIn> =
            Setting::choice(SocialSignIn::CHOICES, "blocked").strict(Literal::Text("blocked"));
        /// The app's own updater
        ///
        /// Which updates the app may install by itself. Unset, the app decides.
        AppSelfUpdate => app_self_update: Option<AppSelfUpdate> =
            Setting::choice(AppSelfUpdate::CHOICES, "none").strict(Literal::Text("none"));
    }
}
