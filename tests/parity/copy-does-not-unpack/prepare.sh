# Run with sh in a copy of this directory.
set -eu
echo x > x
tar -cf t.tar --owner=0 --group=0 --mtime=@1 x
rm x
