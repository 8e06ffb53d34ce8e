// What the errors of error.hpp do beyond carrying a code. Also the voice of a failed assertion.
#include <pelton/engine/error.hpp>

#include <pelton/engine/assert.hpp>

#include <cstdio>
#include <cstdlib>
#include <new>

namespace pelton {

namespace detail {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "pelton: assertion failed: %s (%s:%d)\n", expression, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace detail

namespace {

std::error_code code_of(const std::exception_ptr& exception) noexcept {
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

Failure::Failure(std::error_code code) noexcept {
  if (!code) return;
  if (code.category() == std::system_category() && code.value() > 0) {
    word_ = (static_cast<std::uintptr_t>(code.value()) << 1) | 1;
  } else {
    new (&exception_) std::exception_ptr(std::make_exception_ptr(OSError(code)));
  }
}

Failure::Failure(const Failure& other) noexcept {
  if (other.holds_exception()) {
    new (&exception_) std::exception_ptr(other.exception_);
  } else {
    word_ = other.word_;
  }
}

std::error_code Failure::code() const noexcept {
  if (holds_exception()) return code_of(exception_);
  return *this ? errno_code(errno_value()) : std::error_code();
}

std::exception_ptr Failure::exception() const {
  if (!*this) return nullptr;
  if (holds_exception()) return exception_;
  try {
    throw_os_error(code());
  } catch (...) {
    return std::current_exception();
  }
}

void Failure::raise() const {
  PELTON_ASSERT(bool(*this));
  if (holds_exception()) std::rethrow_exception(exception_);
  throw_os_error(code());
}

std::string Failure::message() const {
  if (holds_exception()) return describe(exception_);
  return *this ? code().message() : std::string();
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
