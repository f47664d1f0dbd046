#!/usr/bin/env bash
# Puts etcd, kube-apiserver, kube-controller-manager and kubectl into a folder, the first way that works:
#   1. KUBEBUILDER_ASSETS, when it is set;
#   2. setup-envtest, when its download can be reached (it brings no kube-controller-manager: that one is built);
#   3. a build from the Go modules that go.mod beside this file pins.
# The binaries are kept per version in the user's cache folder, so another clone on the machine only links to them.
#
# usage: build.sh LINK    LINK becomes a symbolic link to the folder that holds the binaries
set -euo pipefail

link=${1:?usage: build.sh LINK}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/go.mod")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/clerk-operator/controlplane/$version-$(cksum <"$here/go.mod" | cut -d' ' -f1)
binaries=(etcd kube-apiserver kube-controller-manager kubectl)

complete() {
  local name
  for name in "${binaries[@]}"; do [ -x "$1/$name" ] || return 1; done
}

# build NAME PACKAGE: a static binary that reports the Kubernetes version it was built from.
build() {
  local name=$1 package=$2 minor=${version#v*.} stamp=k8s.io/component-base/version
  echo "building $name $version (minutes when Go's build cache is cold, seconds after)"
  (cd "$here" && CGO_ENABLED=0 go build -trimpath -o "$cache/.$name.$$" -ldflags "-s -w \
    -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*} \
    -X $stamp.gitTreeState=clean" "$package")
  mv "$cache/.$name.$$" "$cache/$name"
}

# take DIR: links what DIR already has.
take() {
  local name
  for name in "${binaries[@]}"; do
    if [ ! -x "$cache/$name" ] && [ -x "$1/$name" ]; then ln -sf "$1/$name" "$cache/$name"; fi
  done
}

# A release that setup-envtest can download; it fails within seconds where the internet is out of reach.
downloaded() {
  timeout 60 go tool -modfile="$here/../../go.tools.mod" setup-envtest use "${version#v}" -p path 2>/dev/null
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  # What the user points at must win, so it gets a folder of its own, and is linked afresh on every call.
  cache=$cache-$(printf %s "$KUBEBUILDER_ASSETS" | cksum | cut -d' ' -f1)
  mkdir -p "$cache"
  take "$(cd "$KUBEBUILDER_ASSETS" && pwd)"
fi
mkdir -p "$cache"
if ! complete "$cache"; then
  if [ ! -x "$cache/kube-apiserver" ] && assets=$(downloaded); then take "$assets"; fi
  [ -x "$cache/etcd" ] || build etcd go.etcd.io/etcd/server/v3
  [ -x "$cache/kubectl" ] || build kubectl k8s.io/kubernetes/cmd/kubectl
  [ -x "$cache/kube-apiserver" ] || build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
  [ -x "$cache/kube-controller-manager" ] || build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
fi
mkdir -p "$(dirname "$link")"
if [ "$(readlink "$link" 2>/dev/null)" != "$cache" ]; then ln -sfn "$cache" "$link"; fi
echo "control plane $version: $link -> $cache"
