#!/bin/sh
echo "casting off"
