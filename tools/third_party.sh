#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Fetches a Debian source package's upstream tarball through apt, with a private configuration (no
# deb-src line in the system, no root), checks its SHA-256 and unpacks it.
#   third_party.sh PACKAGE TARBALL SHA256 FOLDER
# A tarball that is already there is checked, not fetched. Exit 3: could not be had; 1: wrong hash.
set -eu
package=$1 tarball=$2 sha256=$3
mkdir -p "$4"
folder=$(cd "$4" && pwd)
apt=$folder/apt

mirrors() { # configured mirrors that carry Debian 12 main
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "bookworm" && $3 == "main" { print $1 }' | sort -u
}

fetch() {
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    option=
    [ -e $keyring ] && option="[signed-by=$keyring] "
    { mirrors; echo http://deb.debian.org/debian/; } | awk '!seen[$0]++' |
        sed "s|.*|deb-src $option& bookworm main|" | head -n 1 >"$apt/sources.list"
    set -- -q -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o "Dir::State=$apt/state" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User="$(id -un)"
    (cd "$apt" && apt-get "$@" update && apt-get "$@" source --download-only "$package") \
        >"$apt/log" 2>&1 || { tail -n 10 "$apt/log" >&2; return 1; }
    mv "$apt/$tarball" "$folder/$tarball.new"
    rm -rf "$apt"
}

matches() { echo "$sha256  $1" | sha256sum --check --status 2>/dev/null; }

if ! matches "$folder/$tarball"; then
    echo "  FETCH   $tarball"
    fetch || { echo "third_party.sh: $package: its source could not be fetched with apt" >&2; exit 3; }
    matches "$folder/$tarball.new" ||
        { echo "third_party.sh: $tarball: SHA-256 is not $sha256" >&2; exit 1; }
    mv "$folder/$tarball.new" "$folder/$tarball"
fi
rm -rf "${folder:?}/$package" "$folder/$package.new"
mkdir "$folder/$package.new"
tar -xf "$folder/$tarball" -C "$folder/$package.new" --strip-components=1
mv "$folder/$package.new" "$folder/$package"
