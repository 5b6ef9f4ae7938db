#!/bin/bash
# between.sh FILE NAME - puts what comes in on stdin between the lines `<!-- NAME -->` and `<!-- end of NAME -->`
# of FILE, in the place of what stands there, with an empty line before and behind it.
set -euo pipefail
FILE=$1 START="<!-- $2 -->" END="<!-- end of $2 -->"
for line in "$START" "$END"; do
  grep -qxF -e "$line" "$FILE" || { echo "$FILE has no line $line" >&2; exit 1; }
done
TEXT=$(mktemp)
trap 'rm -f "$TEXT" "$FILE.new"' EXIT
cat >"$TEXT"
awk -v start="$START" -v end="$END" -v text="$TEXT" '
  $0 == end { inside = 0 }
  !inside { print }
  $0 == start { inside = 1; print ""; while ((getline line < text) > 0) print line; print "" }
' "$FILE" >"$FILE.new"
mv "$FILE.new" "$FILE"
