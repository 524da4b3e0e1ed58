#!/bin/sh
# Installs the named Debian packages that are not installed yet, where apt is there and allowed. Always exits with 0, and
# says what is missing.
set -u
missing=
for package in "$@"; do
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "Not installed, since there is no apt:$missing."
  exit 0
fi
if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo >/dev/null && sudo --non-interactive true 2>/dev/null; then
  as_root=sudo
else
  echo "Not installed, since only root may:$missing."
  exit 0
fi

echo "Installing with apt:$missing."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$@" >"$log" 2>&1
}
$as_root apt-get update --quiet >"$log" 2>&1 || echo "apt-get update failed: $(tail -n 1 "$log")"
# One by one: a package that this distribution lacks does not keep the others away.
for package in $missing; do
  install "$package" || echo "$package could not be installed: $(tail -n 1 "$log")"
done
exit 0
