#!/bin/sh
# Signs a program or a package for macOS in place, on a Mac, with the Developer ID certificates of the keychain: for
# cargo xtask dist macos --sign 'sh packaging/macos/sign.sh'
#
# With NOTARY_KEY (a file), NOTARY_KEY_ID and NOTARY_ISSUER, a key of App Store Connect, it also has Apple notarise a package and
# staples the ticket to it.
set -eu
case "$1" in
*.pkg)
    productsign --timestamp --sign "Developer ID Installer" "$1" "$1.signed"
    mv "$1.signed" "$1"
    if [ -n "${NOTARY_KEY:-}" ]; then
        xcrun notarytool submit "$1" --key "$NOTARY_KEY" --key-id "$NOTARY_KEY_ID" --issuer "$NOTARY_ISSUER" --wait
        xcrun stapler staple "$1"
    fi
    ;;
*)
    codesign --force --timestamp --options runtime --identifier dev.steward.agent --sign "Developer ID Application" "$1"
    ;;
esac
