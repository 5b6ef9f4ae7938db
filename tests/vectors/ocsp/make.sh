#!/bin/bash
# Makes the files of this folder anew with openssl(1): an authority with what it issued and revoked,
# and what responders said of it. The keys are for tests only and protect nothing. Certificates are
# valid from 2026-01-01 to 2126-01-01; responses say when they were made.
set -eu
cd "$(dirname "$0")"
rm -f ./*.crt ./*.key ./*.der ./*.req
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
default_crl_days = 36500
[any]
commonName = optional
organizationName = optional
CNF
}
# issue ISSUER NAME EXTENSIONS [DIGEST [FROM TO]]
issue() {
  key "$2"
  openssl req -new -key "$2.key" -subj "/O=Example/CN=$2" -out "$work/csr" 2>/dev/null
  printf '%b\n' "$3" >"$work/ext"
  local by=(-cert "$1.crt" -keyfile "$1.key")
  [ "$1" != "$2" ] || by=(-selfsign -keyfile "$2.key")
  openssl ca -batch -notext -config "$work/$1.cnf" "${by[@]}" -in "$work/csr" -out "$2.crt" -md "${4:-sha256}" \
    -startdate "${5:-$FROM}" -enddate "${6:-$TO}" -extfile "$work/ext" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
}
CA='basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash'
LEAF='basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid'
base ca 00b0c0d0e0f0; base other 01
issue ca ca "$CA\nauthorityInfoAccess=OCSP;URI:http://192.0.2.80:8080/ocsp"
issue other other "$CA"
issue ca good "$LEAF\nsubjectAltName=DNS:good.example\ncrlDistributionPoints=URI:http://192.0.2.80:8081/ca.crl"
issue ca revoked "$LEAF\nsubjectAltName=DNS:revoked.example"
issue ca delegate "$LEAF\nextendedKeyUsage=OCSPSigning"
issue ca late "$LEAF\nextendedKeyUsage=OCSPSigning" sha256 "$FROM" 20260201000000Z
issue other foreign "$LEAF\nextendedKeyUsage=OCSPSigning"
openssl ca -config "$work/ca.cnf" -cert ca.crt -keyfile ca.key -revoke revoked.crt 2>/dev/null
openssl ca -config "$work/ca.cnf" -cert ca.crt -keyfile ca.key -gencrl -out ca.crl 2>/dev/null
# answer NAME CERTIFICATE SIGNER [OPTION..]: what a responder with this key says
answer() {
  local name=$1 about=$2 signer=$3; shift 3
  openssl ocsp -issuer ca.crt -cert "$about.crt" -reqout "$work/req" -no_nonce 2>/dev/null >&2
  openssl ocsp -index "$work/ca/index" -CA ca.crt -rsigner "$signer.crt" -rkey "$signer.key" -reqin "$work/req" \
    -respout "$name.der" "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}
answer good good ca -ndays 36500
answer short good ca -ndays 1
answer endless good ca
answer revoked revoked ca -ndays 36500
answer delegated good delegate -ndays 36500
answer plain good good -ndays 36500
answer late good late -ndays 36500
answer foreign good foreign -ndays 36500
answer bare good delegate -ndays 36500 -resp_no_certs
answer sha1 good ca -ndays 36500 -rmd sha1
: >"$work/ca/index"
answer unknown good ca -ndays 36500
# One whole conversation with a nonce.
openssl ocsp -issuer ca.crt -cert good.crt -reqout nonce.req -nonce 2>/dev/null >&2
openssl ocsp -index "$work/ca/index" -CA ca.crt -rsigner ca.crt -rkey ca.key -reqin nonce.req -respout nonce.der \
  -ndays 36500 >/dev/null 2>&1
printf '\x30\x03\x0a\x01\x03' >refused.der
rm -f other.key foreign.key late.key
