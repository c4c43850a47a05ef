# Run with sh in a copy of this directory.
set -eu
d=$(printf 'd%.0s' $(seq 120))
f=$(printf 'f%.0s' $(seq 200))
mkdir -p "long/$d/$d"
echo x > "long/$d/$d/$f"
ln -s "$d/$d/$f" long/link
