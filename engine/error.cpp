// What the errors of error.hpp do beyond carrying a code. Also the voice of a failed assertion.
#include <pelton/engine/error.hpp>

#include <pelton/engine/assert.hpp>

#include <cstdio>
#include <cstdlib>

namespace pelton {

namespace detail {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "pelton: assertion failed: %s (%s:%d)\n", expression, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace detail

namespace {

std::error_code code_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::system_error& error) {
    return error.code();
  } catch (const Cancelled&) {
    return errno_code(ECANCELED);
  } catch (...) {
    return errno_code(EIO);
  }
}

std::string group_text(const std::string& message, std::size_t count) {
  return message + " (" + std::to_string(count) + " sub-exception" + (count == 1 ? ")" : "s)");
}

}  // namespace

ExceptionGroup::ExceptionGroup(const std::string& message,
                               std::vector<std::exception_ptr> exceptions)
    : std::runtime_error(group_text(message, exceptions.size())),
      exceptions_(std::move(exceptions)) {}

Failure::Failure(std::exception_ptr exception) : exception_(std::move(exception)) {
  if (exception_) code_ = code_of(exception_);
}

std::exception_ptr Failure::exception() const {
  if (exception_ || !code_) return exception_;
  try {
    throw_os_error(code_);
  } catch (...) {
    return std::current_exception();
  }
}

void Failure::raise() const {
  PELTON_ASSERT(bool(*this));
  if (exception_) std::rethrow_exception(exception_);
  throw_os_error(code_);
}

std::string Failure::message() const {
  if (exception_) return describe(exception_);
  return code_ ? code_.message() : std::string();
}

void throw_os_error(std::error_code code, const std::string& what) {
  const bool is_errno = code.category() == std::system_category();
  switch (is_errno ? code.value() : 0) {
    case ECONNRESET:
      if (what.empty()) throw ConnectionResetError(code);
      throw ConnectionResetError(what + ": " + code.message());
    case EPIPE:
      if (what.empty()) throw BrokenPipeError();
      throw BrokenPipeError(what);
    case ECONNREFUSED:
      if (what.empty()) throw ConnectionRefusedError();
      throw ConnectionRefusedError(what);
    case ECONNABORTED:
      if (what.empty()) throw ConnectionAbortedError();
      throw ConnectionAbortedError(what);
    case ETIMEDOUT:
      if (what.empty()) throw TimeoutError();
      throw TimeoutError(what);
    default:
      if (what.empty()) throw OSError(code);
      throw OSError(code, what);
  }
}

std::string describe(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    return error.what();
  } catch (const Cancelled& cancelled) {
    return cancelled.what();
  } catch (...) {
    return "unknown exception";
  }
}

}  // namespace pelton
