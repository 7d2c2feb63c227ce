#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Debian's current linux-image-amd64, unpacked and not installed: apt says which package it stands for and
# checks what it downloads against the signed lists.
#   fetch.sh FOLDER     leaves FOLDER/boot/vmlinuz, FOLDER/lib/modules, FOLDER/version ("package version sha256")
# What is there is kept; remove FOLDER for a newer one. Exit 3: it could not be had.
set -eu
mkdir -p "$(dirname "$1")"
folder=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
[ -e "$folder/version" ] && exit 0

refuse() {
    echo "coppice: PEERS=linux: $1" >&2
    exit 3
}
resolve() { # the package that linux-image-amd64 depends on
    apt-cache depends --important linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

if [ "$(id -u)" = 0 ]; then as_root=; else as_root='sudo -n'; fi
$as_root apt-get -qq update 2>/dev/null || true # lists that cannot be renewed may still do: the download decides
package=$(resolve)
[ -n "$package" ] || refuse "apt knows no linux-image-amd64. As root, run: apt-get update"
echo "  FETCH   $package"
new=$folder.new
rm -rf "$new" "$folder"
mkdir -p "$new/tree"
(cd "$new" && apt-get -q download "$package" >log 2>&1) || {
    tail -n 5 "$new/log" >&2
    refuse "$package could not be downloaded. As root, run: apt-get update"
}
deb=$(echo "$new"/*.deb)
dpkg-deb -x "$deb" "$new/tree"
# Only what is booted is kept: the tree is 400 MB.
mkdir -p "$new/out/boot" "$new/out/lib/modules/kernel/kernel"
cp "$new"/tree/boot/vmlinuz-* "$new/out/boot/vmlinuz"
for part in drivers/virtio drivers/block drivers/uio; do
    mkdir -p "$new/out/lib/modules/kernel/kernel/$part"
    cp "$new"/tree/lib/modules/*/kernel/$part/*.ko "$new/out/lib/modules/kernel/kernel/$part/"
done
echo "$package $(dpkg-deb -f "$deb" Version) $(sha256sum <"$deb" | cut -d' ' -f1)" >"$new/out/version"
mv "$new/out" "$folder"
rm -rf "$new"
