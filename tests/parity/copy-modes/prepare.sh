# Run with sh in a copy of this directory.
set -eu
mkdir -p modes/private
echo '#!/bin/sh' > modes/run && chmod 755 modes/run
echo secret > modes/secret && chmod 600 modes/secret
echo all > modes/all && chmod 666 modes/all
echo in > modes/private/in
chmod 700 modes/private
chmod 755 modes
