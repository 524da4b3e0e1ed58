#!/bin/sh
# Writes an authority and two certificates of it: of the agents (Secret `edge-tls`) and of the proxy that opens streams to
# them (Secret `edge-proxy-tls`). They are valid for 365 days. An existing authority in the directory is used again.
#
#   deploy/consumers/certificates.sh DIRECTORY
set -eu
[ $# -eq 1 ] || { echo "usage: $0 DIRECTORY" >&2; exit 2; }
umask 077
mkdir -p "$1"
cd "$1"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
if [ ! -f ca.key ]; then
  key ca.key
  openssl req -x509 -new -key ca.key -days 365 -subj "/CN=edge agents" -out ca.crt \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
fi
# certificate NAME SUBJECT USAGE
certificate() {
  key "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
  printf 'subjectAltName=DNS:%s\nextendedKeyUsage=%s\n' "$2" "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile "$1.ext" -out "$1.crt"
  rm "$1.csr" "$1.ext"
}
# The supervisor of an agent connects to its workers with their certificate.
certificate agents agents.llm.internal serverAuth,clientAuth
certificate proxy proxy.llm.internal clientAuth
