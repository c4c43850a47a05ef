#!/bin/sh
# Sourced before the release starts.
export FROM_HOOK=hooked
