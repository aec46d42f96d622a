#!/bin/sh
# VERIFY.sh BAG FINGERPRINT|-
#
# Checks a sealed firebreak evidence bag (format v1) with stock tools, offline, and changes nothing.
# BAG is the folder of the bag. FINGERPRINT is the 64 hex digits of the signing key, received on
# another way than the bag; spaces, colons, dashes and upper case do not matter. - if you have none.
#
# Read this script once, and take it from a release: the copy inside a bag proves nothing about it.
# Needs: sh, find, grep, sort, uniq, sed, cut, tr, wc, head, tail, od, cmp, sha256sum, OpenSSL 3.0.
#
# Exit  0  intact, signed by the key that you named (whether it is the newest copy is not proven)
#       6  TAMPERED: something present is wrong
#      21  intact, but you named no key       22  intact, but recovered after a crash
#      23  not sealed                         24  could not be checked to the end
#       2  usage: never a statement about the bag
set -eu
export LC_ALL=C

usage() {
  echo "usage: VERIFY.sh BAG FINGERPRINT|-    ($1)" >&2
  exit 2
}
[ $# -eq 2 ] || usage "two arguments are needed"
[ -d "$1" ] || usage "BAG is not a folder"
PIN=-
if [ "$2" != - ]; then
  PIN=$(printf %s "$2" | tr -d ' \t\n:._-' | tr A-F a-f)
  printf '%s\n' "$PIN" | grep -Eqx '[0-9a-f]{64}' || usage "a fingerprint has 64 hex digits"
fi
cd "$1"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
WRONG=0 UNFINISHED=0

# ---- how results are said -------------------------------------------------------------------

# Prints one line; bytes that could drive a terminal are dropped.
say() { printf '%-12s %s\n' "$1" "$2" | tr -cd ' -~\n'; }
passed() { say PASSED "$1"; }
failed() { say FAILED "$1"; WRONG=1; }
not_checked() { say "NOT CHECKED" "$1"; }
# Says the verdict and leaves.
verdict() { say VERDICT "$1"; exit "$2"; }
# Runs a check and says how it ended: judge SENTENCE COMMAND...
judge() {
  sentence=$1
  shift
  if "$@"; then passed "$sentence"; else failed "$sentence"; fi
}

# ---- small tools ----------------------------------------------------------------------------

# The SHA-256 of a file, in hex.
sha() { sha256sum < "$1" | cut -c1-64; }
# The length of a file in bytes.
length() { wc -c < "$1" | tr -d ' '; }
# Standard input as one line of hex.
hex() { od -An -v -tx1 | tr -d ' \n'; }
# The value of a line of the seal: the word NAME, a space, the value.
sealed() { sed -n "s/^$1 //p" "$WORK/seal"; }

# What this user may not read: its absence from the checks must not look like tampering.
unreadable() {
  find . -exec sh -c 'for file; do [ -r "$file" ] || [ -L "$file" ] ||
    echo "$file"; done' sh {} + 2> "$WORK/out"
}

# ---- C01: layout and names ------------------------------------------------------------------

# Only regular files and folders: a link could show another file to each reader.
only_files() { [ -z "$(find . ! -type f ! -type d)" ]; }

# Every name is made of plain letters, digits, dots, dashes and underscores.
plain_names() { ! find . | grep -Evq '^\.(/[A-Za-z0-9][A-Za-z0-9._-]*)*$'; }

# No two names differ by case alone: on some systems they would be one file.
no_case_twins() { [ -z "$(find . | tr A-Z a-z | sort | uniq -d)" ]; }

# The declaration, and the number of bytes and files of the payload, are what is there.
facts_hold() {
  printf 'BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n' | cmp -s - bagit.txt || return 1
  count=$(find data -type f | wc -l | tr -d ' ')
  bytes=$(find data -type f -exec cat {} + | wc -c | tr -d ' ')
  grep -Fqx "Payload-Oxum: $bytes.$count" bag-info.txt
}

# ---- C02, C03: manifests --------------------------------------------------------------------

# manifest FILE PATTERN: its lines are well formed and sorted, it names exactly the files that are
# listed on standard input, and every hash is right. Missing and added files are both found.
manifest() {
  sort > "$WORK/there"
  [ -f "$1" ] && [ -s "$1" ] || return 1
  ! grep -Evq "^[0-9a-f]{64}  $2\$" "$1" || return 1
  cut -c67- "$1" > "$WORK/named"
  sort -c "$WORK/named" 2> "$WORK/out" && [ -z "$(uniq -d "$WORK/named")" ] || return 1
  cmp -s "$WORK/there" "$WORK/named" || return 1
  sha256sum -c "$1" > "$WORK/out" 2>&1
}

# The payload is exactly what manifest-sha256.txt names.
payload_manifest() {
  find data -type f | manifest manifest-sha256.txt 'data(/[a-z0-9][a-z0-9._-]*)+'
}

# Everything else, but what may grow after sealing, is exactly what tagmanifest-sha256.txt names.
tag_manifest() {
  find . -type f ! -path './data/*' ! -path './seal/*' ! -path './custody/*' \
    ! -path './forms/*' ! -path ./tagmanifest-sha256.txt | sed 's|^\./||' |
    manifest tagmanifest-sha256.txt '[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*'
}

# ---- C04: the key and the seal --------------------------------------------------------------

# The key is an Ed25519 key in the one accepted encoding (RFC 8410), left in $WORK/key as 32 bytes.
read_key() {
  : > "$WORK/der"
  openssl pkey -pubin -in keys/log.pem -outform DER > "$WORK/der" 2> "$WORK/out" || return 1
  [ "$(length "$WORK/der")" = 44 ] || return 1
  [ "$(head -c 12 "$WORK/der" | hex)" = 302a300506032b6570032100 ] || return 1
  tail -c 32 "$WORK/der" > "$WORK/key"
}

# The key is none of those under which anybody can sign anything, nor a second spelling of a key.
# Stock tools accept signatures under these keys. Written as little-endian hex, the sign bit last:
strong_key() {
  zeros=000000000000000000000000000000000000000000000000000000000000
  fs=$(printf %s "$zeros" | tr 0 f)
  a=26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc
  b=c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03
  case $(hex < "$WORK/key") in
    00"$zeros"[08]0) return 1 ;;           # y = 0: order 4
    01"$zeros"[08]0) return 1 ;;           # y = 1: the identity
    e[cdef]"$fs"[7f]f) return 1 ;;         # y = p-1: order 2; from ed on second spellings (y >= p)
    f[0123456789abcdef]"$fs"[7f]f) return 1 ;; # second spellings, up to y = 2^255-1
    "$a"[08]5) return 1 ;;                 # order 8
    "$b"[7f]a) return 1 ;;                 # order 8, the other one
  esac
}

# note FILE NAME: a body, a blank line, one signature line by the key under that name, in the one
# accepted spelling and with nothing after it. Leaves the body in $WORK/body.
note() {
  [ -f "$1" ] || return 1
  sed '/^$/,$d' "$1" > "$WORK/body"
  signature=$(sed '1,/^$/d' "$1" | sed -n '1s/.* //p')
  { cat "$WORK/body"; printf '\n— %s %s\n' "$2" "$signature"; } | cmp -s - "$1" || return 1
  printf %s "$signature" | openssl base64 -d -A > "$WORK/blob" || return 1
  [ "$(openssl base64 -A < "$WORK/blob")" = "$signature" ] || return 1
  [ "$(length "$WORK/blob")" = 68 ] || return 1
  { printf '%s\n\001' "$2"; cat "$WORK/key"; } | openssl dgst -sha256 -binary > "$WORK/id"
  [ "$(head -c 4 "$WORK/id" | hex)" = "$(head -c 4 "$WORK/blob" | hex)" ] || return 1
  tail -c 64 "$WORK/blob" > "$WORK/signature"
  openssl pkeyutl -verify -pubin -inkey keys/log.pem -rawin -in "$WORK/body" \
    -sigfile "$WORK/signature" > "$WORK/out" 2>&1
}

# The seal is signed by the key in the bag and has its eleven lines in their order.
seal_form() {
  note seal/seal.note "$ORIGIN" || return 1
  cp "$WORK/body" "$WORK/seal"
  names=$(sed '1d' "$WORK/seal" | cut -d' ' -f1 | tr '\n' ' ')
  [ "$(sed -n 1p "$WORK/seal")" = firebreak/bag-seal/v1 ] || return 1
  [ "$names" = "origin bag tagmanifest-sha256 map-sha256 tree ledger prev-seal-sha256 \
recoveries epoch closed " ] || return 1
  group=$(sed -n 's/^Bag-Group-Identifier: //p' bag-info.txt)
  grep -Fqx "External-Identifier: ${group}_$NUMBER" bag-info.txt
}

# ---- C05, C06: what the seal names ----------------------------------------------------------

# The seal names this tag manifest and this map, and through them every file of the bag.
seal_names_files() {
  [ "$(sealed tagmanifest-sha256)" = "$(sha tagmanifest-sha256.txt)" ] || return 1
  [ "$(sealed map-sha256)" = "$(sha tlog/map.tsv)" ]
}

# The head of the record tree is signed by the same key, for this bag, and the seal repeats it.
checkpoint() {
  note tlog/checkpoint "$ORIGIN/bag/$NUMBER" || return 1
  [ "$(wc -l < "$WORK/body" | tr -d ' ')" = 3 ] || return 1
  [ "$(sed -n 1p "$WORK/body")" = "$ORIGIN/bag/$NUMBER" ] || return 1
  [ "$(sealed tree)" = "$(sed -n 2p "$WORK/body") $(sed -n 3p "$WORK/body")" ]
}

# ---- C09: whose key it is -------------------------------------------------------------------

# The fingerprint of the key is the one that the reader brought.
pinned() { [ "$(sha "$WORK/der")" = "$PIN" ]; }

# ---- the checks, in order -------------------------------------------------------------------

if [ -f tlog/redacted.tsv ]; then
  not_checked "a redacted copy: needs firebreak-verify"
  verdict INCOMPLETE 24
fi
if [ -n "$(unreadable)" ]; then
  say INCOMPLETE "not readable: $(unreadable | tr '\n' ' ')"
  verdict INCOMPLETE 24
fi
judge "C01 only regular files and folders" only_files
judge "C01 plain names" plain_names
judge "C01 no names that differ by case alone" no_case_twins
SEALED=1
[ -f seal/seal.note ] || SEALED=0
if [ -f bag-info.txt ] && ! grep -Fqx 'Firebreak-Profile: v1' bag-info.txt; then
  say INCOMPLETE "bag-info.txt: unknown format version"
  UNFINISHED=1
fi
if [ $SEALED = 1 ] || [ -f bag-info.txt ]; then
  judge "C01 the bag has the bytes and files that it declares" facts_hold
fi
if [ $SEALED = 1 ] || [ -f manifest-sha256.txt ]; then
  judge "C02 the payload is what its manifest names, byte for byte" payload_manifest
fi
if [ $SEALED = 1 ] || [ -f tagmanifest-sha256.txt ]; then
  judge "C03 the tag files are what their manifest names, byte for byte" tag_manifest
fi
if [ $SEALED = 1 ]; then
  ORIGIN=$(sed -n '2s/^origin //p' seal/seal.note)
  NUMBER=$(sed -n '3s/^bag //p' seal/seal.note)
  : > "$WORK/seal"
  : > "$WORK/key"
  judge "C04 the key is an Ed25519 key" read_key
  judge "C04 the key is not one under which anybody can sign" strong_key
  judge "C04 the seal has its form and its signature is good" seal_form
  judge "C05 the seal names this tag manifest and this map" seal_names_files
  judge "C06 the head of the record tree is signed and the seal repeats it" checkpoint
  if [ "$PIN" = - ]; then
    not_checked "C09 signer: compare $(sha "$WORK/der") with paper"
  else
    judge "C09 the signing key is the one whose fingerprint you brought" pinned
  fi
fi

# ---- what this script does not check --------------------------------------------------------

find seal custody forms -type f 2> "$WORK/out" | sort > "$WORK/outside" || :
while read -r file; do
  [ "$file" = seal/seal.note ] || say UNPROTECTED "$file: no signature checked here covers it"
done < "$WORK/outside"
not_checked "C07 records against the record tree: needs firebreak-verify"
not_checked "C10 C11 key epochs and revocation: compare the fingerprint with the newest form"
not_checked "C12 time stamps: this version of the format writes none"
not_checked "C13 C14 C15 ledger, witnesses, other bags: needs firebreak-verify and the incident"
not_checked "C16 C17 hand-overs and approvals: this version of the format writes none"
not_checked "what happened before acquisition, and whether it was complete"
not_checked "the host's clock; who held the private key; whether a newer copy exists"

# ---- the verdict: the worst wins ------------------------------------------------------------

[ $WRONG = 0 ] || verdict TAMPERED 6
[ $UNFINISHED = 0 ] || verdict INCOMPLETE 24
[ $SEALED = 1 ] || verdict "UNSEALED: anything may have been added or removed" 23
[ "$PIN" != - ] || verdict "INTACT, SIGNER NOT TRUSTED: no fingerprint was given" 21
[ "$(sealed recoveries)" = 0 ] || verdict "RECOVERED TAIL: the bag was recovered after a crash" 22
verdict "INTACT, FRESHNESS NOT PROVEN: compare seal sha256 $(sha seal/seal.note) with paper" 0
