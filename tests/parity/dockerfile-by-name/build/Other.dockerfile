FROM parity-base
COPY f /f
