#!/bin/sh
# Writes the secrets that docker-compose.yml mounts: one file each in .edge/secrets.
#
#   OPENAI_API_KEY=… envoy/compose/secrets.sh
#
# The caller's key and the pepper are made once and kept. The directory is for its owner alone. The files can be read by
# everybody who reaches them, since the agent reads them in its container as a user that this machine does not have.
set -eu
cd "$(dirname "$0")/../.."
directory=.edge/secrets
: "${OPENAI_API_KEY:?is not set; give the key that the gateway sends to OpenAI}"

mkdir -p .edge
mkdir -p -m 0700 "$directory"
chmod 0700 "$directory"

write() { # NAME, and the value on standard input
  cat > "$directory/$1.new"
  chmod 0644 "$directory/$1.new"
  mv "$directory/$1.new" "$directory/$1"
}

make_once() { # NAME
  [ -s "$directory/$1" ] || od -An -N 24 -t x1 /dev/urandom | tr -d ' \n' | write "$1"
}

printf %s "$OPENAI_API_KEY" | write openai_api_key
make_once caller_key
make_once pepper
echo "The caller's key is in $directory/caller_key."
