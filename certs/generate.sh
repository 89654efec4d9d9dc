#!/bin/sh
# Makes the certificates in this directory, which are for tests alone: their keys are public. Needs OpenSSL 3.
#
# They are committed, so that tests need no OpenSSL. Running this replaces them all.
#
#   ca.pem              an authority                     ca2.pem            another one
#   bundle.pem          both, with text between them     intermediate.pem   an authority under ca.pem
#   server-cert.pem     localhost, 127.0.0.1, ::1        server-rsa, server-ed25519 and so on: the same with other keys
#   *-key.pem           PKCS#8 unless the name says pkcs1 or sec1
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '%s\n' '[ca]' 'default_ca=it' '[it]' "database=$work/index" "new_certs_dir=$work" 'default_md=sha256' \
    'rand_serial=yes' 'policy=any' 'unique_subject=no' 'email_in_dn=yes' 'preserve=yes' '[any]' 'commonName=optional' \
    > "$work/ca.cnf"

# key <file> <algorithm>
key() {
    case $2 in
        rsa) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1" 2>/dev/null ;;
        p256) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null ;;
        p384) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out "$1" 2>/dev/null ;;
        ed25519) openssl genpkey -algorithm ED25519 -out "$1" 2>/dev/null ;;
    esac
}

# request <name> <algorithm> <subject>
request() {
    [ -e "$1-key.pem" ] && [ -e "$work/$1.made" ] || key "$1-key.pem" "$2"
    touch "$work/$1.made"
    openssl req -new -key "$1-key.pem" -subj "$3" -multivalue-rdn -utf8 -out "$work/$1.csr" 2>/dev/null
}

# issue <name> <signer's options> <file> <extensions, one a line> [<not before> <not after>]
issue() {
    : > "$work/index"
    printf '%s\n' "$4" > "$work/ext"
    # The options for the signer are several words.
    openssl ca -batch -config "$work/ca.cnf" -in "$work/$1.csr" $2 -notext -extfile "$work/ext" \
        -preserveDN -utf8 -multivalue-rdn -startdate "${5:-20240101000000Z}" -enddate "${6:-20731231235959Z}" \
        -out "$3" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
}

# sign <name> <authority> <extensions> [<not before> <not after>]
sign() {
    issue "$1" "-cert $2.pem -keyfile $2-key.pem" "$1-cert.pem" "$3" "${4:-}" "${5:-}"
}

# selfsign <name> <subject> <file> <extensions>
selfsign() {
    openssl req -new -key "$1-key.pem" -subj "$2" -utf8 -out "$work/$1.csr" 2>/dev/null
    issue "$1" "-selfsign -keyfile $1-key.pem" "$3" "$4"
}

# authority <name> <subject>
authority() {
    key "$1-key.pem" p256
    selfsign "$1" "$2" "$1.pem" 'basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign'
}

leaf='basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature'
both="$leaf
extendedKeyUsage=serverAuth,clientAuth"
local='subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1'

authority ca '/O=midge tests/CN=Test CA'
authority ca2 '/O=midge tests/CN=Second Test CA'
{
    echo 'The first authority:'
    cat ca.pem
    echo 'The second authority:'
    cat ca2.pem
} > bundle.pem

request intermediate p256 '/O=midge tests/CN=Intermediate CA'
sign intermediate ca 'basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign'
mv intermediate-cert.pem intermediate.pem

# Servers.
for algorithm in p256 p384 rsa ed25519; do
    name=server-$algorithm
    [ $algorithm = p256 ] && name=server
    request $name $algorithm '/O=midge tests/CN=localhost'
    sign $name ca "$both
$local"
done
openssl rsa -in server-rsa-key.pem -traditional -out server-rsa-pkcs1-key.pem 2>/dev/null
openssl ec -in server-key.pem -out server-sec1-key.pem 2>/dev/null
openssl pkcs8 -topk8 -in server-key.pem -passout pass:secret -out server-encrypted-key.pem

# The same key, renewed: tells a reload from none.
request server2 p256 '/O=midge tests/CN=localhost renewed'
sign server2 ca "$both
$local"

request server-chain p256 '/O=midge tests/CN=localhost'
sign server-chain intermediate "$both
$local"
cat intermediate.pem >> server-chain-cert.pem

request server-noip p256 '/O=midge tests/CN=localhost'
sign server-noip ca "$both
subjectAltName=DNS:localhost"
request server-wildcard p256 '/O=midge tests/CN=wildcard'
sign server-wildcard ca "$both
subjectAltName=DNS:*.example.com,DNS:example.com"
request server-cn-only p256 '/CN=localhost'
sign server-cn-only ca "$both"
request server-expired p256 '/O=midge tests/CN=localhost'
sign server-expired ca "$both
$local" 20200101000000Z 20210101000000Z
request server-other-ca p256 '/O=midge tests/CN=localhost'
sign server-other-ca ca2 "$both
$local"
request server-only p256 '/O=midge tests/CN=localhost'
sign server-only ca "$leaf
extendedKeyUsage=serverAuth
$local"

# Clients.
client() {
    request "client-$1" p256 "$2"
    sign "client-$1" "${4:-ca}" "${5:-$both}
$3"
}
client email '/O=midge tests/CN=mail' 'subjectAltName=email:first@example.com,email:derek@nats.io'
client dns '/O=midge tests/CN=dns' 'subjectAltName=DNS:other.example.com,DNS:app.nats.dev'
client uri '/O=midge tests/CN=uri' 'subjectAltName=URI:spiffe://localhost/my-nats-service/user-a'
client all '/O=midge tests/CN=all' 'subjectAltName=DNS:app.nats.dev,email:derek@nats.io,URI:spiffe://localhost/all'
client dn '/C=US/ST=CA/L=Los Angeles/O=NATS/OU=NATS/CN=localhost' ''
client dn-multi '/CN=app+OU=Team/O=NATS, Inc./C=US' ''
client dn-dc '/DC=com/DC=example/OU=Users/OU=Apps/CN=John Doe' ''
client dn-ous '/O=NATS/OU=first/OU=second/CN=two units' ''
client dn-email '/O=NATS/CN=with mail/emailAddress=a@example.com' ''
client other-ca '/O=midge tests/CN=stranger' 'subjectAltName=email:derek@nats.io' ca2
client chain '/O=midge tests/CN=chain' 'subjectAltName=email:chain@nats.io' intermediate
cp client-chain-cert.pem client-nochain-cert.pem
cp client-chain-key.pem client-nochain-key.pem
cat intermediate.pem >> client-chain-cert.pem
client noeku '/O=midge tests/CN=noeku' '' ca "$leaf"
client serveronly '/O=midge tests/CN=serveronly' '' ca "$leaf
extendedKeyUsage=serverAuth"
request client-expired p256 '/O=midge tests/CN=expired'
sign client-expired ca "$both" 20200101000000Z 20210101000000Z
request client-future p256 '/O=midge tests/CN=future'
sign client-future ca "$both" 20700101000000Z 20731231235959Z
cp client-dn-key.pem client-self-key.pem
selfsign client-self '/CN=alone' client-self-cert.pem 'basicConstraints=critical,CA:FALSE
extendedKeyUsage=clientAuth'
