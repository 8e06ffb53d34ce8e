// Errors as values and as exceptions: nothing of a code or of a text gets lost between the two.
//
// The texts of the system are asked for, not written down: they are the C library's.
// Neighbours: engine/error.hpp; the exceptions that carry data are tested with stream/.
#include <pelton/engine/error.hpp>

#include <doctest/doctest.h>

#include <future>
#include <ostream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <support/tasks.hpp>

using pelton::Cancelled;
using pelton::describe;
using pelton::errno_code;
using pelton::errno_result;
using pelton::Failure;
using pelton::throw_os_error;
using pelton::test::is_a;
using pelton::test::thrown_by;

namespace {

std::string system_text(int errno_value) { return std::system_category().message(errno_value); }

}  // namespace

TEST_CASE("an errno code keeps its value, also one that nobody knows") {
  CHECK(errno_code(ECONNRESET).value() == ECONNRESET);
  CHECK(errno_code(ECONNRESET) == std::errc::connection_reset);
  CHECK(errno_code(4000).value() == 4000);
  CHECK(&errno_code(4000).category() == &std::system_category());
  CHECK_FALSE(errno_code(0));
}

TEST_CASE("errno_result makes any Result an error") {
  const pelton::Result<std::string> text = errno_result(EMFILE);
  CHECK(text.error() == errno_code(EMFILE));
  const pelton::Result<void> nothing = errno_result(EPIPE);
  CHECK(nothing.error() == errno_code(EPIPE));
}

TEST_CASE("Cancelled escapes a catch of std::exception") {
  static_assert(!std::is_base_of_v<std::exception, Cancelled>);
  bool swallowed = false;
  bool cancelled = false;
  try {
    try {
      throw Cancelled();
    } catch (const std::exception&) {
      swallowed = true;
    }
  } catch (const Cancelled& error) {
    cancelled = error.what() == std::string("Cancelled");
  }
  CHECK_FALSE(swallowed);
  CHECK(cancelled);
}

TEST_CASE("throw_os_error throws the class that Python has for the errno") {
  const auto thrown = [](int value) {
    return thrown_by([value] { throw_os_error(errno_code(value)); });
  };
  CHECK(is_a<pelton::ConnectionResetError>(thrown(ECONNRESET)));
  CHECK(is_a<pelton::BrokenPipeError>(thrown(EPIPE)));
  CHECK(is_a<pelton::ConnectionRefusedError>(thrown(ECONNREFUSED)));
  CHECK(is_a<pelton::ConnectionAbortedError>(thrown(ECONNABORTED)));
  CHECK(is_a<pelton::TimeoutError>(thrown(ETIMEDOUT)));
  CHECK(is_a<pelton::OSError>(thrown(EMFILE)));
  CHECK_FALSE(is_a<pelton::ConnectionResetError>(thrown(EMFILE)));
}

TEST_CASE("throw_os_error keeps the code, whatever it is") {
  for (const int value : {ECONNRESET, EPIPE, ECONNREFUSED, ECONNABORTED, ETIMEDOUT, EMFILE, 4000}) {
    for (const std::string& what : {std::string(), std::string("connecting to [::1]:80")}) {
      CAPTURE(value);
      const auto exception = thrown_by([&] { throw_os_error(errno_code(value), what); });
      REQUIRE(is_a<pelton::OSError>(exception));
      CHECK(Failure(exception).code() == errno_code(value));
      CHECK(describe(exception).starts_with(what));
      CHECK(describe(exception).find(system_text(value)) != std::string::npos);
    }
  }
}

TEST_CASE("the exceptions of a socket are OSErrors with their errno") {
  CHECK(pelton::ConnectionResetError().code() == errno_code(ECONNRESET));
  CHECK(pelton::BrokenPipeError().code() == errno_code(EPIPE));
  CHECK(pelton::ConnectionRefusedError().code() == errno_code(ECONNREFUSED));
  CHECK(pelton::ConnectionAbortedError().code() == errno_code(ECONNABORTED));
  CHECK(pelton::TimeoutError().code() == errno_code(ETIMEDOUT));
  CHECK(pelton::TimeoutError("too late").code() == errno_code(ETIMEDOUT));
  static_assert(std::is_base_of_v<std::system_error, pelton::OSError>);
  static_assert(std::is_base_of_v<pelton::RuntimeError, pelton::InvalidStateError>);
}

TEST_CASE("a ConnectionResetError's text is the whole of its what") {
  CHECK(pelton::ConnectionResetError("Connection lost").what() == std::string("Connection lost"));
  CHECK(pelton::ConnectionResetError("Connection lost").code() == errno_code(ECONNRESET));
  CHECK(pelton::ConnectionResetError().what() == system_text(ECONNRESET));
}

TEST_CASE("an ExceptionGroup counts its exceptions as Python does") {
  const auto error = std::make_exception_ptr(std::runtime_error("x"));
  CHECK(pelton::ExceptionGroup("unhandled", {error}).what() ==
        std::string("unhandled (1 sub-exception)"));
  const pelton::ExceptionGroup two("unhandled", {error, error});
  CHECK(two.what() == std::string("unhandled (2 sub-exceptions)"));
  CHECK(two.exceptions() == std::vector{error, error});
}

TEST_CASE("no failure is false and has neither code, exception nor message") {
  for (const Failure& failure : {Failure(), Failure(nullptr), Failure(std::error_code())}) {
    CHECK_FALSE(failure);
    CHECK_FALSE(failure.code());
    CHECK(failure.exception() == nullptr);
    CHECK(failure.message().empty());
  }
}

TEST_CASE("a failure from a code makes its exception on demand") {
  const Failure failure(errno_code(ECONNRESET));
  CHECK(failure);
  CHECK(failure.code() == errno_code(ECONNRESET));
  CHECK(failure.message() == system_text(ECONNRESET));
  CHECK(is_a<pelton::ConnectionResetError>(failure.exception()));
  CHECK_THROWS_AS(failure.raise(), pelton::ConnectionResetError);
}

TEST_CASE("a failure from an exception is that exception") {
  const auto original = std::make_exception_ptr(pelton::TimeoutError("too late"));
  const Failure failure(original);
  CHECK(failure);
  CHECK(failure.code() == errno_code(ETIMEDOUT));
  CHECK(failure.exception() == original);
  CHECK(failure.message().starts_with("too late"));
  CHECK_THROWS_AS(failure.raise(), pelton::TimeoutError);
  const Failure copy = failure;  // NOLINT(performance-unnecessary-copy-initialization)
  CHECK(copy.exception() == original);
}

TEST_CASE("a failure's code is EIO for exceptions without one and ECANCELED for Cancelled") {
  CHECK(Failure(std::make_exception_ptr(std::runtime_error("x"))).code() == errno_code(EIO));
  CHECK(Failure(std::make_exception_ptr(42)).code() == errno_code(EIO));
  CHECK(Failure(std::make_exception_ptr(Cancelled())).code() == errno_code(ECANCELED));
}

TEST_CASE("describe has words for any exception") {
  CHECK(describe(std::make_exception_ptr(std::runtime_error("x"))) == "x");
  CHECK(describe(std::make_exception_ptr(Cancelled())) == "Cancelled");
  CHECK(describe(std::make_exception_ptr(42)) == "unknown exception");
}

TEST_CASE("a failure keeps the code of any category, copied, moved and assigned") {
  const std::error_code codes[] = {errno_code(ECONNRESET),
                                   errno_code(1),
                                   errno_code(4095),
                                   std::make_error_code(std::errc::broken_pipe),
                                   std::error_code(-5, std::system_category()),
                                   std::make_error_code(std::future_errc::no_state)};
  for (const std::error_code& code : codes) {
    CAPTURE(code.message());
    const Failure failure(code);
    Failure copy(failure);
    Failure assigned(std::make_exception_ptr(std::runtime_error("before")));
    assigned = copy;
    const Failure moved(std::move(copy));
    for (const Failure* each : {&failure, static_cast<const Failure*>(&assigned), &moved}) {
      CHECK(bool(*each));
      CHECK(each->code() == code);
      CHECK(each->message() == code.message());
      CHECK(each->exception() != nullptr);
    }
  }
}
