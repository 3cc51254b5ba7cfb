#!/bin/sh
# Signs a program or a package for macOS in place, on a Mac, with the Developer ID certificates of the keychain: for
# cargo xtask dist macos --sign 'sh packaging/macos/sign.sh'
set -eu
case "$1" in
*.pkg)
    productsign --timestamp --sign "Developer ID Installer" "$1" "$1.signed"
    mv "$1.signed" "$1"
    ;;
*)
    codesign --force --timestamp --options runtime --identifier dev.steward.agent --sign "Developer ID Application" "$1"
    ;;
esac
