# Run with sh in a copy of this directory.
set -eu
i=0
while [ $i -lt 300 ]; do
  mkdir -p many/$((i % 10))
  echo $i > many/$((i % 10))/$i
  i=$((i + 1))
done
