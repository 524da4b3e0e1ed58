#!/bin/sh
# Compares a tag vX.Y.Z with the versions of the package and of the chart, and looks for its section in the changelog.
set -eu
cd "$(dirname "$0")/.."
wanted="${1#v}"
package=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' edge_extproc/__init__.py)
chart=$(sed -n 's/^version: \(.*\)$/\1/p' deploy/helm/edge-extproc/Chart.yaml)
app=$(sed -n 's/^appVersion: "\(.*\)"$/\1/p' deploy/helm/edge-extproc/Chart.yaml)
for found in "edge_extproc/__init__.py $package" "Chart.yaml version $chart" "Chart.yaml appVersion $app"; do
  [ "${found##* }" = "$wanted" ] || { echo "$found: is not the version of the tag; set $wanted" >&2; exit 1; }
done
grep -q "^## $wanted\$" CHANGELOG.md || { echo "CHANGELOG.md: has no section $wanted; gather the fragments" >&2; exit 1; }
