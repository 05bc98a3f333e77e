#!/bin/sh
# Valkey reads no environment: put the hash of $VALKEY_PASSWORD into a copy of users.acl, then become the server.
set -eu
umask 077
here=$(dirname "$0")
acl="${TMPDIR:-/tmp}/users.acl"
: "${VALKEY_PASSWORD:?set it to the password of the user svc}"
hash=$(printf %s "$VALKEY_PASSWORD" | sha256sum | cut -d ' ' -f 1)
sed "s/PASSWORD_SHA256/$hash/" "$here/users.acl" > "$acl"
unset VALKEY_PASSWORD
exec valkey-server "$here/valkey.conf" --aclfile "$acl" "$@"
