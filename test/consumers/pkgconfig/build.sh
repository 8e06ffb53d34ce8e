#!/bin/sh
# An application without CMake: what pkg-config says, and a compiler.
# usage: build.sh OUTPUT   (with PKG_CONFIG_PATH set to where pelton.pc is)
set -eu
here=$(dirname "$0")
flags=$(pkg-config --cflags --static --libs pelton)
# shellcheck disable=SC2086  # the flags are words
exec "${CXX:-c++}" -std=c++23 -o "$1" "$here/../consumer.cpp" $flags
