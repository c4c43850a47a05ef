# Run with sh in a copy of this directory.
set -eu
mkdir -p modes/sticky modes/setgid
echo x > modes/setuid && chmod 4755 modes/setuid
chmod 1777 modes/sticky
chmod 2755 modes/setgid
chmod 755 modes
