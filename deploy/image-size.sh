#!/bin/sh
# Adds the layers of an image, as they are pulled, for each machine of its index. Fails above a number of bytes.
#
#   deploy/image-size.sh NAME@DIGEST BYTES
set -eu
inspect() { docker buildx imagetools inspect --raw "$1"; }
name="${1%@*}"
# Attestations have the machine `unknown`.
digests=$(inspect "$1" | jq -r '.manifests[] | select(.platform.architecture != "unknown") | .digest')
[ -n "$digests" ] || { echo "$1: has no image for any machine, or cannot be inspected" >&2; exit 1; }
for digest in $digests; do
  bytes=$(inspect "$name@$digest" | jq '[.layers[].size] | add')
  echo "$digest: $bytes bytes"
  [ "$bytes" -le "$2" ] || { echo "$digest: has more than $2 bytes" >&2; exit 1; }
done
