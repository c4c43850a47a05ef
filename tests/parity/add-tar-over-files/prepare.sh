# Run with sh in a copy of this directory.
set -eu
mkdir -p tree/sub
echo one > tree/one
echo two > tree/sub/two
chmod 640 tree/one
ln -s one tree/link
ln tree/one tree/hard
chmod 755 tree tree/sub
tar -cf tree.tar --owner=0 --group=0 tree
rm -r tree
