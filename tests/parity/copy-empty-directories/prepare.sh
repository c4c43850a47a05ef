# Run with sh in a copy of this directory.
set -eu
mkdir -p empty dirs/a/b dirs/c
