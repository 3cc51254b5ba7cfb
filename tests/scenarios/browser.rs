//! The certified OpenID provider of the npm registry, and a real browser at its real login form.
