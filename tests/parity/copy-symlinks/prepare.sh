# Run with sh in a copy of this directory.
set -eu
mkdir -p links/dir
echo target > links/file
echo in > links/dir/in
ln -s file links/to-file
ln -s dir links/to-dir
ln -s nowhere links/dangling
ln -s /etc/passwd links/absolute
ln -s ../links/dir/in links/upwards
