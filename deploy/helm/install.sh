#!/bin/sh
# Builds helm, egctl, and kustomize where there is no kubectl, from their Go modules into the user's cache, once: it takes
# some minutes. Always exits with 0, and says what is not there. Some tests are skipped then.
set -u
version=v3.19.0
kustomize=v5.7.1
egctl=v1.9.1
cache="${XDG_CACHE_HOME:-$HOME/.cache}/edge-extproc"

# build NAME VERSION MODULE
build() {
  directory="$cache/$1-$2"
  [ -x "$directory/$1" ] && return
  if ! command -v go >/dev/null; then
    echo "$1 is not built, since there is no Go."
    return
  fi
  echo "Building $1 $2 into $directory: once, and it takes some minutes."
  log=$(mktemp)
  GOBIN="$directory" GOFLAGS=-modcacherw go install "$3@$2" >"$log" 2>&1 || echo "$1 could not be built: $(tail -n 1 "$log")"
  rm -f "$log"
}

[ -n "${HELM_BINARY:-}" ] || build helm "$version" helm.sh/helm/v3/cmd/helm
command -v kubectl >/dev/null || build kustomize "$kustomize" sigs.k8s.io/kustomize/kustomize/v5
[ -n "${EGCTL_BINARY:-}" ] || build egctl "$egctl" github.com/envoyproxy/gateway/cmd/egctl
exit 0
