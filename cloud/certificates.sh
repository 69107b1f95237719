#!/bin/sh
# Makes what the gate of docker/compose.cloud.yaml and its workers show each other:
#   cloud/certificates.sh DIRECTORY HOSTNAME
# DIRECTORY/gate is for the gate (GATE_DIRECTORY), DIRECTORY/worker for each worker, and
# DIRECTORY/authority.key stays with you: whoever has it can make workers. What is there is kept, so
# that removing DIRECTORY/worker and running it again makes a new one of the same authority.
set -eu
umask 077

directory=${1:?a directory} hostname=${2:?the name under which workers reach the gate}
days=825
mkdir -p "$directory/gate" "$directory/worker"
cd "$directory"

# sign NAME EXTENSION: make NAME.key and NAME.crt, signed by the authority, unless they are there.
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
