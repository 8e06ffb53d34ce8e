// Errors as pelton carries them.
//
// engine and proto are noexcept and return Result<T>: a value or a std::error_code whose errno is
// preserved. stream throws asyncio's exceptions. Failure joins the two: it is what a transport
// hands to a protocol and a protocol to a reader, a code that becomes an exception only when
// somebody raises it, so that a storm of resets throws nothing.
//
// Neighbours: stream/errors.hpp adds the exceptions that carry data.
#pragma once

#include <cerrno>
#include <cstdint>
#include <exception>
#include <expected>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace pelton {

template <class T>
using Result = std::expected<T, std::error_code>;

/// The std::error_code of a positive errno value, system category, never mapped to another code.
inline std::error_code errno_code(int errno_value) noexcept {
  return {errno_value, std::system_category()};
}

/// An unexpected(errno_code(errno_value)), for the return statement of a Result function.
inline std::unexpected<std::error_code> errno_result(int errno_value) noexcept {
  return std::unexpected(errno_code(errno_value));
}

/// Raised at the await of a cancelled task. Like asyncio's CancelledError (a BaseException) it
/// does not derive from std::exception, so `catch (const std::exception&)` cannot swallow it.
class Cancelled {
 public:
  /// A text for logs: "Cancelled".
  [[nodiscard]] const char* what() const noexcept { return "Cancelled"; }
};

/// asyncio's OSError: an errno with a text. The base of every error of a socket.
class OSError : public std::system_error {
 public:
  explicit OSError(std::error_code code) : std::system_error(code) {}
  /// what() is "WHAT: text of the errno".
  OSError(std::error_code code, const std::string& what) : std::system_error(code, what) {}
  /// One whose what() is `text` and nothing else, where asyncio words it so.
  [[nodiscard]] static OSError with_text(std::error_code code, std::string text) {
    OSError error(code);
    error.text_ = std::move(text);
    return error;
  }
  [[nodiscard]] const char* what() const noexcept override {
    return text_.empty() ? std::system_error::what() : text_.c_str();
  }

 private:
  std::string text_;
};

/// asyncio's ConnectionResetError: the peer or the kernel ended the connection.
class ConnectionResetError : public OSError {
 public:
  ConnectionResetError() : OSError(errno_code(ECONNRESET)) {}
  /// \param text  The whole of what(), as in asyncio's ConnectionResetError('Connection lost').
  explicit ConnectionResetError(std::string text)
      : OSError(with_text(errno_code(ECONNRESET), std::move(text))) {}
  explicit ConnectionResetError(std::error_code code) : OSError(code) {}
};

/// Python's BrokenPipeError (EPIPE).
class BrokenPipeError : public OSError {
 public:
  BrokenPipeError() : OSError(errno_code(EPIPE)) {}
  explicit BrokenPipeError(const std::string& what) : OSError(errno_code(EPIPE), what) {}
};

/// Python's ConnectionRefusedError (ECONNREFUSED).
class ConnectionRefusedError : public OSError {
 public:
  explicit ConnectionRefusedError(const std::string& what)
      : OSError(errno_code(ECONNREFUSED), what) {}
  ConnectionRefusedError() : OSError(errno_code(ECONNREFUSED)) {}
};

/// Python's ConnectionAbortedError (ECONNABORTED).
class ConnectionAbortedError : public OSError {
 public:
  ConnectionAbortedError() : OSError(errno_code(ECONNABORTED)) {}
  explicit ConnectionAbortedError(const std::string& what)
      : OSError(errno_code(ECONNABORTED), what) {}
};

/// Python's TimeoutError: wait_for() and timeout() raise it; its code is ETIMEDOUT.
class TimeoutError : public OSError {
 public:
  TimeoutError() : OSError(errno_code(ETIMEDOUT)) {}
  explicit TimeoutError(const std::string& what) : OSError(errno_code(ETIMEDOUT), what) {}
};

/// Python's ValueError: an argument that can never be right. what() is asyncio's text.
class ValueError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Python's RuntimeError: a call that the object's state forbids. what() is asyncio's text.
class RuntimeError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// asyncio's InvalidStateError: the result of a future that has none yet, or a second result.
class InvalidStateError : public RuntimeError {
 public:
  using RuntimeError::RuntimeError;
};

/// Python's ExceptionGroup: what a TaskGroup raises when children failed.
class ExceptionGroup : public std::runtime_error {
 public:
  /// what() is "MESSAGE (N sub-exceptions)", as in Python ("1 sub-exception" for one).
  ExceptionGroup(const std::string& message, std::vector<std::exception_ptr> exceptions);
  [[nodiscard]] const std::vector<std::exception_ptr>& exceptions() const noexcept {
    return exceptions_;
  }

 private:
  std::vector<std::exception_ptr> exceptions_;
};

/// Why a connection, a future or a reader failed: nothing, an error code, or any exception.
///
/// One word wide and cheap to copy: every connection has three. Made from an errno it allocates and
/// throws nothing; raise() builds the exception. The code of an exception is found when asked for.
class Failure {
 public:
  Failure() noexcept {}
  Failure(std::nullptr_t) noexcept {}  // asyncio's connection_lost(None)
  Failure(std::error_code code) noexcept;
  /// \param exception  Non-null. code() is the one of a std::system_error, else EIO.
  Failure(std::exception_ptr exception) noexcept : exception_(std::move(exception)) {}
  Failure(const Failure& other) noexcept;
  Failure(Failure&& other) noexcept : word_(other.word_) { other.word_ = 0; }
  Failure& operator=(Failure other) noexcept {
    const std::uintptr_t word = word_;  // by name: through a reference it would be another object
    word_ = other.word_;
    other.word_ = word;
    return *this;
  }
  ~Failure() {
    if (holds_exception()) exception_.~exception_ptr();
  }

  /// True if there is a failure.
  explicit operator bool() const noexcept { return word_ != 0; }
  [[nodiscard]] std::error_code code() const noexcept;
  /// The exception, made on demand from the code. Null if there is no failure.
  [[nodiscard]] std::exception_ptr exception() const;
  /// Throws exception(). Precondition: bool(*this).
  [[noreturn]] void raise() const;
  /// The what() of the exception ("Cancelled" for one, "unknown exception" for a foreign type).
  [[nodiscard]] std::string message() const;

 private:
  [[nodiscard]] bool holds_exception() const noexcept { return word_ != 0 && (word_ & 1) == 0; }
  /// The errno, 0 if there is none.
  [[nodiscard]] int errno_value() const noexcept {
    return (word_ & 1) != 0 ? static_cast<int>(word_ >> 1) : 0;
  }

  /// Zero: no failure. Odd: an errno and the lowest bit. Else the exception, whose representation
  /// is a pointer to an aligned object.
  union {
    std::uintptr_t word_ = 0;
    std::exception_ptr exception_;
  };
};
static_assert(sizeof(std::exception_ptr) == sizeof(std::uintptr_t));
static_assert(sizeof(Failure) == sizeof(std::uintptr_t));

/// Throws the exception class that Python has for this errno (ConnectionResetError,
/// BrokenPipeError, ConnectionRefusedError, TimeoutError...), else OSError.
/// \param what  Put before the errno's text, where not empty.
[[noreturn]] void throw_os_error(std::error_code code, const std::string& what = {});

/// The what() of any exception, also of Cancelled and of types foreign to std::exception.
[[nodiscard]] std::string describe(const std::exception_ptr& exception);

}  // namespace pelton
