// The text of the exception that a call throws.
#pragma once

#include <string>

namespace pelton::test {

/// what() of the Exception that `action` throws; "nothing thrown" if it throws none. Exceptions
/// of other types pass.
template <class Exception, class Action>
[[nodiscard]] std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace pelton::test
