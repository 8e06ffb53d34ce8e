// The exceptions that carry data, and the codes in their place.
//
// Neighbours: stream/errors.hpp; read_operations_test.cpp, where they come from.
#include <pelton/stream/errors.hpp>

#include <doctest/doctest.h>

#include <support/tasks.hpp>

using namespace pelton;
using namespace pelton::test;

TEST_CASE("IncompleteReadError is an EOFError that counts what there was") {
  const IncompleteReadError counted(Bytes::copy("abc"), 36);
  CHECK(std::string(counted.what()) == "3 bytes read on a total of 36 expected bytes");
  CHECK(counted.partial() == "abc");
  CHECK(counted.expected() == 36);
  const IncompleteReadError uncounted(Bytes(), std::nullopt);
  CHECK(std::string(uncounted.what()) == "0 bytes read on a total of undefined expected bytes");
  CHECK_FALSE(uncounted.expected().has_value());
  CHECK(is_a<EOFError>(std::make_exception_ptr(counted)));
}

TEST_CASE("exceptions keep their data when they are copied through a Failure") {
  const Failure incomplete(std::make_exception_ptr(IncompleteReadError(Bytes::copy("abc"), 9)));
  const Failure copy = incomplete;  // NOLINT: the copy is what is tested
  try {
    copy.raise();
  } catch (const IncompleteReadError& error) {
    CHECK(error.partial() == "abc");
    CHECK(error.expected() == 9);
  }
  try {
    Failure(std::make_exception_ptr(LimitOverrunError("over", 7))).raise();
  } catch (const LimitOverrunError& error) {
    CHECK(error.consumed() == 7);
    CHECK(std::string(error.what()) == "over");
  }
}

TEST_CASE("codes have a category and a text of their own") {
  CHECK(std::string(stream_category().name()) == "pelton.stream");
  for (int value = 1; value <= 4; ++value) {
    const std::error_code code(value, stream_category());
    CHECK_FALSE(code.message().empty());
    CHECK(code.message() != "unknown stream error");
    CHECK(code != std::error_code(value, std::system_category()));
  }
  CHECK(std::error_code(99, stream_category()).message() == "unknown stream error");
  const std::error_code code = StreamErrc::limit_overrun;
  CHECK(code == StreamErrc::limit_overrun);
  CHECK(code != StreamErrc::incomplete_read);
}

TEST_CASE("an OSError may have a text that is all it says") {
  const OSError plain(errno_code(EADDRINUSE), "bind");
  CHECK(std::string(plain.what()).starts_with("bind: "));
  const OSError whole = OSError::with_text(errno_code(EADDRINUSE), "taken");
  const OSError copy = whole;  // NOLINT: the copy is what is tested
  CHECK(std::string(copy.what()) == "taken");
  CHECK(copy.code() == errno_code(EADDRINUSE));
  const ConnectionResetError lost("Connection lost");
  CHECK(std::string(lost.what()) == "Connection lost");
  CHECK(lost.code() == errno_code(ECONNRESET));
}
