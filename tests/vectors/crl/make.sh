#!/bin/bash
# Makes the files of this folder anew with openssl(1): an authority, what it issued, and its revocation
# lists, good ones and others. The keys are for tests only and protect nothing. Certificates are valid
# from 2026-01-01 to 2126-01-01, and so are the lists that do not say otherwise.
set -eu
cd "$(dirname "$0")"
rm -f ./*.crt ./*.key ./*.crl
FROM=20260101000000Z TO=21260101000000Z
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
base() {
  mkdir -p "$work/$1"; : >"$work/$1/index"; echo "$2" >"$work/$1/serial"; echo 01 >"$work/$1/crlnumber"
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
[any]
commonName = optional
organizationName = optional
[plain]
authorityKeyIdentifier = keyid
[users]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical,@users_scope
[users_scope]
fullname = URI:http://192.0.2.80:8081/ca.crl
onlyuser = TRUE
[elsewhere]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical,@elsewhere_scope
[elsewhere_scope]
fullname = URI:http://192.0.2.80:8081/elsewhere.crl
CNF
}
# issue ISSUER FILE NAME EXTENSIONS
issue() {
  key "$2"
  openssl req -new -key "$2.key" -subj "/O=Example/CN=$3" -out "$work/csr" 2>/dev/null
  printf '%b\n' "$4" >"$work/ext"
  local by=(-cert "$1.crt" -keyfile "$1.key")
  [ "$1" != "$2" ] || by=(-selfsign -keyfile "$2.key")
  openssl ca -batch -notext -config "$work/$1.cnf" "${by[@]}" -in "$work/csr" -out "$2.crt" \
    -startdate "$FROM" -enddate "$TO" -extfile "$work/ext" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
}
revoke() { openssl ca -config "$work/$1.cnf" -cert "$1.crt" -keyfile "$1.key" -revoke "$2.crt" 2>/dev/null; }
# list ISSUER FILE [EXTENSIONS [DIGEST [FROM [TO]]]]: what the issuer has revoked so far
list() {
  openssl ca -config "$work/$1.cnf" -cert "$1.crt" -keyfile "$1.key" -gencrl -crlexts "${3:-plain}" -md "${4:-sha256}" \
    -crl_lastupdate "${5:-$FROM}" -crl_nextupdate "${6:-$TO}" -out "$work/pem" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  openssl crl -in "$work/pem" -outform DER -out "$2.crl"
}
CA='basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash'
LEAF='basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid'
AT='crlDistributionPoints=URI:ldap://192.0.2.80/cn=ca,URI:http://192.0.2.80:8081'
base ca 00b0c0d0e0f0; base other 01; base twin 01; base sub 01; base mute 01
issue ca ca ca "$CA"
issue other other other "$CA"
# The same name, another key.
issue twin twin ca "$CA"
issue ca sub sub "$CA\nauthorityKeyIdentifier=keyid\n$AT/ca.crl"
# One that may issue certificates but no lists.
issue ca mute mute "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash"
issue ca good good "$LEAF\nsubjectAltName=DNS:good.example\n$AT/ca.crl"
issue ca revoked revoked "$LEAF\nsubjectAltName=DNS:revoked.example\n$AT/ca.crl"
issue ca silent silent "$LEAF\nsubjectAltName=DNS:silent.example"
issue sub deep deep "$LEAF\nsubjectAltName=DNS:deep.example\n$AT/sub.crl"
issue mute under under "$LEAF\nsubjectAltName=DNS:under.example\n$AT/mute.crl"
revoke ca revoked
list ca ca
list ca users users
list ca elsewhere elsewhere
list ca sha1 plain sha1
list ca expired plain sha256 "$FROM" 20260201000000Z
list ca early plain sha256 21250101000000Z
list sub sub
list mute mute
list other other
list twin twin
revoke ca good; revoke ca sub
list ca later
list ca newer plain sha256 20260101010000Z
rm -f other.key twin.key mute.key under.key
