#!/bin/sh
# Makes the keys and signatures of this folder anew with openssl(1), so that src/auth is held
# against another implementation. The keys are for tests only and protect nothing.
set -eu
cd "$(dirname "$0")"

openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key
openssl rsa -in rsa.key -traditional -out rsa-traditional.key 2>/dev/null
openssl rsa -in rsa.key -pubout -out rsa.pub 2>/dev/null
openssl rsa -in rsa.key -RSAPublicKey_out -out rsa-pkcs1.pub 2>/dev/null
openssl rsa -in rsa.key -aes256 -passout pass:secret -out rsa-encrypted.key 2>/dev/null
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa-1024.key
openssl rsa -in rsa-1024.key -pubout -out rsa-1024.pub 2>/dev/null
# With an EC PARAMETERS block in front, as Debian's openiked package makes its local.key.
openssl ecparam -name prime256v1 -genkey -out p256.key
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key
openssl genpkey -algorithm ED25519 -out ed25519.key
for key in p256 p384 p521 ed25519; do openssl pkey -in $key.key -pubout -out $key.pub; done

octets=$(mktemp)
trap 'rm -f "$octets" "$octets.sig"' EXIT
printf 'octets that both sides sign' > "$octets"

hex() { od -An -v -tx1 "$@" | tr -d ' \n'; }
# sign KEY DIGEST [dgst options]: a signature in hexadecimal.
sign() { key=$1; digest=$2; shift 2; openssl dgst -"$digest" -sign "$key.key" "$@" "$octets" | hex; }
# method_14 KEY IDENTIFIER SIGNATURE: RFC 7427, 3.
method_14() { printf '%s 14 %02x%s%s\n' "$1" $((${#2} / 2)) "$2" "$3"; }
# raw KEY DIGEST WIDTH: r and s side by side (RFC 4754, 7).
raw() {
    openssl dgst -"$2" -sign "$1.key" -out "$octets.sig" "$octets"
    openssl asn1parse -inform DER -in "$octets.sig" | sed -n 's/.*INTEGER *://p' |
        while read -r number; do printf "%$(($3 * 2))s" "$number"; done | tr ' A-F' '0a-f'
}

pss() { sign "$1" "$2" -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest; }
sha() { printf '300d06096086480165030402%s0500' "$1"; }
# pss_identifier HASH SALT: RFC 7427, A.4.3.
pss_identifier() {
    printf '304106092a864886f70d01010a3034a00f%sa11c301a06092a864886f70d010108%sa2030201%s' \
        "$(sha "$1")" "$(sha "$1")" "$2"
}
{
    echo '# KEY METHOD AUTH-DATA, made by make.sh over "octets that both sides sign".'
    echo "rsa 1 $(sign rsa sha1)"
    echo "p256 9 $(raw p256 sha256 32)"
    echo "p384 10 $(raw p384 sha384 48)"
    echo "p521 11 $(raw p521 sha512 66)"
    # The identifiers are those printed in RFC 7427, appendix A, and RFC 8420, 2.
    method_14 rsa 300d06092a864886f70d01010b0500 "$(sign rsa sha256)"
    method_14 rsa 300d06092a864886f70d01010c0500 "$(sign rsa sha384)"
    method_14 rsa 300d06092a864886f70d01010d0500 "$(sign rsa sha512)"
    method_14 rsa "$(pss_identifier 01 20)" "$(pss rsa sha256)"
    method_14 rsa "$(pss_identifier 02 30)" "$(pss rsa sha384)"
    method_14 rsa "$(pss_identifier 03 40)" "$(pss rsa sha512)"
    for key in p256 p384 p521; do
        method_14 $key 300a06082a8648ce3d040302 "$(sign $key sha256)"
        method_14 $key 300a06082a8648ce3d040303 "$(sign $key sha384)"
        method_14 $key 300a06082a8648ce3d040304 "$(sign $key sha512)"
    done
    openssl pkeyutl -sign -rawin -inkey ed25519.key -in "$octets" -out "$octets.sig"
    method_14 ed25519 300506032b6570 "$(hex "$octets.sig")"
} > signatures.txt
