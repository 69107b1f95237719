#!/bin/sh
# Creates the certificates of the gate of docker/compose.cloud.yaml and of its workers:
#   cloud/certificates.sh DIRECTORY HOSTNAME
# DIRECTORY/gate is for the gate (GATE_DIRECTORY), DIRECTORY/worker for each worker, and
# DIRECTORY/authority.key stays with you: it can sign new workers. Existing files are kept: to get a
# new worker's certificate of the same authority, remove DIRECTORY/worker and run this again.
set -eu
umask 077

directory=${1:?a directory} hostname=${2:?the name under which workers reach the gate}
days=825
mkdir -p "$directory/gate" "$directory/worker"
cd "$directory"

# sign NAME EXTENSION: create NAME.key and NAME.crt, signed by the authority, unless they exist.
sign() {
    if [ -s "$1.crt" ]; then return; fi
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -keyout "$1.key" -out "$1.csr" -subj "/CN=BountyCoder ${1##*/}" 2>/dev/null
    printf '%s\n' "$2" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA authority.crt -CAkey authority.key -CAcreateserial \
        -days "$days" -extfile "$1.ext" -out "$1.crt" 2>/dev/null
    rm "$1.csr" "$1.ext"
}

if [ ! -s authority.crt ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -keyout authority.key -out authority.crt -subj "/CN=BountyCoder's workers" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
fi
sign gate/gate "subjectAltName=DNS:$hostname
extendedKeyUsage=serverAuth"
sign worker/worker "extendedKeyUsage=clientAuth"
cp authority.crt gate/ca.crt
cp authority.crt worker/ca.crt
