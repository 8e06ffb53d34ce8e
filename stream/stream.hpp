// Everything that a program needs to write servers and clients: asyncio's streams, in C++.
//
//   #include <pelton/stream.hpp>
//
// Neighbours: each header below documents its part; examples/ has whole programs.
#pragma once

#include <pelton/engine/loop.hpp>
#include <pelton/engine/runner.hpp>
#include <pelton/stream/connection.hpp>
#include <pelton/stream/errors.hpp>
#include <pelton/stream/reader.hpp>
#include <pelton/stream/reader_protocol.hpp>
#include <pelton/stream/relay.hpp>
#include <pelton/stream/server.hpp>
#include <pelton/stream/writer.hpp>
