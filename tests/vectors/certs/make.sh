#!/bin/bash
# Makes the certificates of this folder anew with openssl(1): two authorities, what they issued, and
# everything that a peer must not get in with. The keys are for tests only and protect nothing.
# Valid from 2026-01-01 to 2126-01-01 unless the name says otherwise.
set -eu
cd "$(dirname "$0")"
rm -f ./*.crt ./*.key ./*.crl ./*.pem
FROM=20260101000000Z TO=21260101000000Z
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() { [ -e "$1.key" ] || openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
# ca NAME [OPTION..]: a database to issue from
base() { mkdir -p "$work/$1"; : >"$work/$1/index"; [ -e "$work/$1/serial" ] || echo 1000 >"$work/$1/serial"; echo 01 >"$work/$1/crlnumber"
  cat >"$work/$1.cnf" <<CNF
[ca]
default_ca = here
[here]
dir = $work/$1
database = \$dir/index
new_certs_dir = \$dir
serial = \$dir/serial
crlnumber = \$dir/crlnumber
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
default_crl_days = 36500
[any]
commonName = optional
organizationName = optional
countryName = optional
emailAddress = optional
CNF
}
# issue ISSUER NAME SUBJECT EXTENSIONS [FROM TO [DIGEST [PUBLIC]]]
issue() {
  local issuer=$1 name=$2 subject=$3 extensions=$4 from=${5:-$FROM} to=${6:-$TO} digest=${7:-sha256}
  key "$name"
  openssl req -new -key "$name.key" -subj "$subject" -out "$work/csr" 2>/dev/null
  printf '%b\n' "$extensions" >"$work/ext"
  local self=(-cert "$issuer.crt" -keyfile "$issuer.key")
  [ "$issuer" != "$name" ] || self=(-selfsign -keyfile "$name.key")
  openssl ca -batch -notext -config "$work/$issuer.cnf" "${self[@]}" -in "$work/csr" -out "$name.crt" \
    -startdate "$from" -enddate "$to" -md "$digest" -extfile "$work/ext" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
}
CA='basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash'
leaf() { printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName=%s' "$1"; }

for name in root other middle narrow limited tiny; do base $name; done
issue root root '/C=DE/O=Example/CN=Root' "$CA"
issue other other '/C=DE/O=Other/CN=Root' "$CA"
issue root middle '/C=DE/O=Example/CN=Middle' "$CA\nauthorityKeyIdentifier=keyid"
issue root narrow '/C=DE/O=Example/CN=Narrow' "$CA\nnameConstraints=critical,permitted;DNS:inside.example"
issue root limited '/C=DE/O=Example/CN=Limited' "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign"
issue limited tiny '/C=DE/O=Example/CN=Tiny' "$CA"

peer=DNS:peer.example
issue root peer '/C=DE/O=Example/CN=peer' "$(leaf $peer,email:peer@example.org,IP:192.0.2.7,IP:2001:db8::7)"
issue middle below '/C=DE/O=Example/CN=below' "$(leaf $peer)"
issue tiny toolong '/C=DE/O=Example/CN=toolong' "$(leaf $peer)"
issue narrow inside '/C=DE/O=Example/CN=inside' "$(leaf DNS:peer.inside.example)"
issue narrow outside '/C=DE/O=Example/CN=outside' "$(leaf $peer)"
issue other stranger '/C=DE/O=Other/CN=stranger' "$(leaf $peer)"
issue root expired '/C=DE/O=Example/CN=expired' "$(leaf $peer)" 20200101000000Z 20210101000000Z
issue root future '/C=DE/O=Example/CN=future' "$(leaf $peer)" 21000101000000Z 21250101000000Z
issue root revoked '/C=DE/O=Example/CN=revoked' "$(leaf $peer)"
issue root sha1 '/C=DE/O=Example/CN=sha1' "$(leaf $peer)" $FROM $TO sha1
issue root usage '/C=DE/O=Example/CN=usage' "$(leaf $peer | sed s/digitalSignature/keyEncipherment/)"
issue root nameless '/C=DE/O=Example/CN=peer.example' "$(leaf DNS:else.example)"
# A leaf that plays authority: `openssl ca` will not, so x509 does.
key forged
openssl req -new -key forged.key -subj '/C=DE/O=Example/CN=forged' -out "$work/csr"
leaf $peer | grep -v authorityKey >"$work/ext"
openssl x509 -req -in "$work/csr" -CA peer.crt -CAkey peer.key -set_serial 7 -days 36500 \
  -extfile "$work/ext" -out forged.crt 2>/dev/null
# An RSA key beside the ECDSA one, for the same name.
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key
issue root rsa '/C=DE/O=Example/CN=peer' "$(leaf $peer)"
# RSA too small to count, and one with the exponent 3.
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small.key
issue root small '/C=DE/O=Example/CN=small' "$(leaf $peer)"

openssl ca -config "$work/root.cnf" -cert root.crt -keyfile root.key -gencrl -out empty.crl 2>/dev/null
openssl ca -config "$work/root.cnf" -cert root.crt -keyfile root.key -revoke revoked.crt 2>/dev/null
openssl ca -config "$work/root.cnf" -cert root.crt -keyfile root.key -gencrl -out root.crl 2>/dev/null
cat below.crt middle.crt >below-chain.pem
# Only these sign something in the tests.
for key in *.key; do case $key in peer.key|rsa.key|below.key|stranger.key) ;; *) rm "$key";; esac; done
