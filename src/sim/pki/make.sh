#!/bin/bash
# Makes the authority of all worlds anew with openssl(1), and a certificate for each host; all have one key.
# The keys are Ed25519, whose signatures leave nothing to chance, and protect nothing. Valid from 2026-01-01
# to 2126-01-01.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl genpkey -algorithm ed25519 -out "$work/ca.key"
openssl genpkey -algorithm ed25519 -out host.key
openssl req -new -key "$work/ca.key" -subj '/CN=World' -out "$work/ca.csr"
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\nsubjectKeyIdentifier=hash\n' >"$work/ca.ext"
mkdir "$work/db"; : >"$work/db/index"; echo 01 >"$work/db/serial"
printf '[ca]\ndefault_ca=x\n[x]\ndatabase=%s/db/index\nnew_certs_dir=%s/db\nserial=%s/db/serial\ndefault_md=default\npolicy=p\n[p]\ncommonName=supplied\n' \
  "$work" "$work" "$work" >"$work/cnf"
issue() { openssl ca -batch -notext -config "$work/cnf" -startdate 20260101000000Z -enddate 21260101000000Z "$@" 2>/dev/null; }
issue -selfsign -keyfile "$work/ca.key" -in "$work/ca.csr" -extfile "$work/ca.ext" -out ca.crt
: >hosts.crt
for name in gw0 gw1 rw1 rw2 rw3 rw4 rw5 rw6 rw7; do
  openssl req -new -key host.key -subj "/CN=$name" -out "$work/csr"
  printf 'keyUsage=digitalSignature\nsubjectAltName=DNS:%s.example\ncrlDistributionPoints=URI:http://outside.example/crl\n' \
    "$name" >"$work/ext"
  issue -cert ca.crt -keyfile "$work/ca.key" -in "$work/csr" -extfile "$work/ext" -out "$work/crt"
  cat "$work/crt" >>hosts.crt
done
