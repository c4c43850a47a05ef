#!/bin/sh
# bin/still greet NAME
echo "hello $1 from $REL_NAME $REL_VSN"
