// The steps of reader_model.hpp, in the order of checks of asyncio's documentation and sources.
#include <fuzz/reader_model.hpp>

#include <algorithm>
#include <utility>

#include <fuzz/target.hpp>
#include <pelton/stream/errors.hpp>

namespace pelton::fuzz {
namespace {

constexpr std::size_t limit_default = 64 * 1024;
constexpr const char* not_found_text = "Separator is not found, and chunk exceed the limit";
constexpr const char* too_long_text = "Separator is found, but chunk is longer than limit";

const char* name_of(ReadRequest::Kind kind) {
  switch (kind) {
    case ReadRequest::Kind::read:
      return "read";
    case ReadRequest::Kind::readexactly:
      return "readexactly";
    case ReadRequest::Kind::read_piece:
      return "read_piece";
    default:
      return "readuntil";  // which readline calls
  }
}

/// What a try_ read gives in place of an exception; nothing where it ends as its twin does.
std::optional<std::error_code> code_of(const Outcome& outcome) {
  switch (outcome.kind) {
    case Outcome::Kind::incomplete:
      return StreamErrc::incomplete_read;
    case Outcome::Kind::overrun:
      return StreamErrc::limit_overrun;
    case Outcome::Kind::value_error:
      return StreamErrc::invalid_argument;
    case Outcome::Kind::runtime_error:
      return StreamErrc::concurrent_read;
    case Outcome::Kind::failure:
      return outcome.code;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string Outcome::to_string() const {
  std::string out = std::to_string(static_cast<int>(kind)) + " " + shown(bytes);
  if (number) out += " " + std::to_string(*number);
  return out + " " + shown(text) + " " + code.message();
}

// --- What happens to the reader ---

void ReaderModel::feed_data(std::string_view data) {
  if (data.empty()) return;
  buffer_ += data;
  wake_waiter();
  if (!has_transport_ || paused_ || buffer_.size() <= 2 * limit_) return;
  if (!pausable_) {
    has_transport_ = false;
    return;
  }
  paused_ = true;
  ++pauses_;
}

void ReaderModel::feed_eof() {
  eof_ = true;
  wake_waiter();
}

void ReaderModel::set_exception(ModelFailure failure) {
  exception_ = std::move(failure);
  if (waiter_ != nobody) reads_[waiter_].failure = exception_;
  wake_waiter();
}

void ReaderModel::set_transport(bool pausable) {
  has_transport_ = true;
  pausable_ = pausable;
}

void ReaderModel::wake_waiter() {
  const std::size_t id = std::exchange(waiter_, nobody);
  if (id == nobody) return;
  reads_[id].state = Read::State::woken;
  schedule(id);
}

void ReaderModel::maybe_resume() {
  if (paused_ && buffer_.size() <= limit_) resume();
}

void ReaderModel::resume() {
  if (!std::exchange(paused_, false)) return;
  if (has_transport_) ++resumes_;
}

std::string ReaderModel::to_string() const {
  std::string text = "<StreamReader";
  if (!buffer_.empty()) text += " " + std::to_string(buffer_.size()) + " bytes";
  if (eof_) text += " eof";
  if (limit_ != limit_default) text += " limit=" + std::to_string(limit_);
  if (waiter_ != nobody) text += " waiter=<pending>";
  if (exception_) text += " exception=" + exception_->text;
  if (has_transport_) text += " transport=<Transport>";
  if (paused_) text += " paused";
  return text + ">";
}

// --- Tasks ---

void ReaderModel::start(ReadRequest request) {
  std::ranges::sort(request.separators, {}, &std::string::size);
  Read read;
  read.request = std::move(request);
  reads_.push_back(std::move(read));
  queue_.push_back(reads_.size() - 1);
}

bool ReaderModel::cancel(std::size_t id) {
  Read& read = reads_[id];
  if (read.state == Read::State::done) return false;
  read.cancelled = true;
  if (read.state == Read::State::waiting) {
    waiter_ = nobody;
    read.state = Read::State::woken;
    schedule(id);
  }
  return true;
}

void ReaderModel::destroy(std::size_t id) {
  if (reads_[id].state == Read::State::done) return;
  if (waiter_ == id) waiter_ = nobody;
  finish_error(id, Outcome::Kind::cancelled, "");
}

void ReaderModel::schedule(std::size_t id) {
  if (std::exchange(reads_[id].scheduled, true)) return;
  queue_.push_back(id);
}

void ReaderModel::turn() {
  for (const std::size_t id : std::exchange(queue_, {})) step(id);
}

void ReaderModel::step(std::size_t id) {
  Read& read = reads_[id];
  read.scheduled = false;
  if (read.state == Read::State::done) return;
  if (read.cancelled) return finish_error(id, Outcome::Kind::cancelled, "");
  if (read.failure) return finish_failed(id, *read.failure);
  if (read.state == Read::State::fresh && begin(id)) return;
  attempt(id);
}

// --- Reads ---

/// The checks before the first look at the buffer. \return true if they ended the read.
bool ReaderModel::begin(std::size_t id) {
  const ReadRequest& request = reads_[id].request;
  using Kind = ReadRequest::Kind;
  const auto refuse = [&](const char* text) {
    finish_error(id, Outcome::Kind::value_error, text);
    return true;
  };
  if (request.kind == Kind::readexactly && request.count < 0) {
    return refuse("readexactly size can not be less than zero");
  }
  if (request.kind == Kind::readuntil_any && request.separators.empty()) {
    return refuse("Separator should contain at least one element");
  }
  if (!request.separators.empty() && request.separators.front().empty()) {
    return refuse("Separator should be at least one-byte string");
  }
  if (exception_) {
    finish_failed(id, *exception_);
    return true;
  }
  const bool counts = request.kind == Kind::read || request.kind == Kind::readexactly ||
                      request.kind == Kind::read_piece;
  if (!counts || request.count != 0) return false;
  finish_bytes(id, "");
  return true;
}

void ReaderModel::attempt(std::size_t id) {
  const ReadRequest& request = reads_[id].request;
  const auto count = static_cast<std::size_t>(request.count);
  switch (request.kind) {
    case ReadRequest::Kind::read:
      if (request.count < 0) return attempt_all(id);
      if (buffer_.empty() && !eof_) return wait(id);
      return finish_bytes(id, take(count));
    case ReadRequest::Kind::readexactly:
      if (buffer_.size() >= count) return finish_bytes(id, take(count));
      return eof_ ? finish_incomplete(id, count) : wait(id);
    case ReadRequest::Kind::read_piece:
      return attempt_piece(id);
    default:
      return attempt_until(id);
  }
}

/// Blocks of at most the limit until the end; an exception in between loses them.
void ReaderModel::attempt_all(std::size_t id) {
  Read& read = reads_[id];
  for (;;) {
    if (exception_ && !read.woken_once) return finish_failed(id, *exception_);
    if (buffer_.empty() && !eof_) {
      read.woken_once = true;
      return wait(id);
    }
    read.woken_once = false;
    const std::string block = take(limit_);
    if (block.empty()) break;
    read.collected += block;
  }
  finish_bytes(id, std::move(read.collected));
}

/// At least a byte, at most as many as were asked for: the rest is not the contract's.
void ReaderModel::attempt_piece(std::size_t id) {
  if (buffer_.empty() && !eof_) return wait(id);
  const auto most = std::min(static_cast<std::size_t>(reads_[id].request.count), buffer_.size());
  const std::size_t size = buffer_.empty() ? 0 : piece_size_(id);
  require(buffer_.empty() || (size >= 1 && size <= most),
          "a piece of another size than is allowed");
  finish_bytes(id, take(size));
}

void ReaderModel::attempt_until(std::size_t id) {
  Read& read = reads_[id];
  const std::size_t shortest = read.request.separators.front().size();
  const std::size_t longest = read.request.separators.back().size();
  if (buffer_.size() >= read.offset && buffer_.size() - read.offset >= shortest) {
    const Match match = search(read);
    if (match.end != std::string::npos) {
      if (match.start > limit_) return overrun(id, too_long_text, match.start);
      return finish_bytes(id, take(match.end));
    }
    read.offset = buffer_.size() + 1 > longest ? buffer_.size() + 1 - longest : 0;
    if (read.offset > limit_) return overrun(id, not_found_text, read.offset);
  }
  if (!eof_) return wait(id);
  if (read.request.kind != ReadRequest::Kind::readline) return finish_incomplete(id, std::nullopt);
  finish_bytes(id, std::exchange(buffer_, {}));  // a partial line is a line
}

/// The separator that ends first; of equal ones the shortest.
ReaderModel::Match ReaderModel::search(const Read& read) const {
  Match best;
  for (const std::string& separator : read.request.separators) {
    const std::size_t start = buffer_.find(separator, read.offset);
    if (start == std::string::npos) continue;
    const std::size_t end = start + separator.size();
    if (best.end == std::string::npos || end < best.end) best = {start, end};
  }
  return best;
}

/// readuntil leaves everything as it is; readline drops the line, or all if its end is not there.
void ReaderModel::overrun(std::size_t id, const char* text, std::size_t consumed) {
  if (reads_[id].request.kind != ReadRequest::Kind::readline) {
    Outcome outcome;
    outcome.kind = Outcome::Kind::overrun;
    outcome.number = consumed;
    outcome.text = text;
    return finish(id, std::move(outcome));
  }
  const bool ends_there = buffer_.compare(consumed, 1, "\n") == 0;
  buffer_.erase(0, ends_there ? consumed + 1 : buffer_.size());
  maybe_resume();
  finish_error(id, Outcome::Kind::value_error, text);
}

void ReaderModel::wait(std::size_t id) {
  if (waiter_ != nobody) {
    return finish_error(id, Outcome::Kind::runtime_error,
                        std::string(name_of(reads_[id].request.kind)) +
                            "() called while another coroutine is already waiting for incoming "
                            "data");
  }
  resume();
  waiter_ = id;
  reads_[id].state = Read::State::waiting;
}

std::string ReaderModel::take(std::size_t count) {
  std::string taken = buffer_.substr(0, count);
  buffer_.erase(0, taken.size());
  maybe_resume();
  return taken;
}

// --- Ends ---

void ReaderModel::finish(std::size_t id, Outcome outcome) {
  Read& read = reads_[id];
  read.state = Read::State::done;
  const auto code = read.request.as_code ? code_of(outcome) : std::nullopt;
  if (code) {
    outcome = {};
    outcome.kind = Outcome::Kind::code;
    outcome.code = *code;
  } else {
    outcome.code = {};
  }
  read.outcome = std::move(outcome);
}

void ReaderModel::finish_bytes(std::size_t id, std::string bytes) {
  Outcome outcome;
  outcome.kind = Outcome::Kind::bytes;
  outcome.bytes = std::move(bytes);
  finish(id, std::move(outcome));
}

void ReaderModel::finish_error(std::size_t id, Outcome::Kind kind, std::string text) {
  Outcome outcome;
  outcome.kind = kind;
  outcome.text = std::move(text);
  finish(id, std::move(outcome));
}

void ReaderModel::finish_incomplete(std::size_t id, std::optional<std::size_t> expected) {
  Outcome outcome;
  outcome.kind = Outcome::Kind::incomplete;
  outcome.bytes = std::exchange(buffer_, {});
  outcome.number = expected;
  outcome.text = std::to_string(outcome.bytes.size()) + " bytes read on a total of " +
                 (expected ? std::to_string(*expected) : "undefined") + " expected bytes";
  finish(id, std::move(outcome));
}

void ReaderModel::finish_failed(std::size_t id, const ModelFailure& failure) {
  Outcome outcome;
  outcome.kind = Outcome::Kind::failure;
  outcome.text = failure.text;
  outcome.code = failure.code;
  finish(id, std::move(outcome));
}

}  // namespace pelton::fuzz
