// The state machines of read_operations.hpp.
#include <pelton/stream/read_operations.hpp>

#include <algorithm>

namespace pelton::detail {
namespace {

constexpr const char* not_found_text = "Separator is not found, and chunk exceed the limit";
constexpr const char* too_long_text = "Separator is found, but chunk is longer than limit";

}  // namespace

// --- ReadOperation ---

bool ReadOperation::wait_for_data() noexcept {
  if (core_->begin_wait(*this)) {
    if (!std::exchange(holds_core_, true)) core_->add_ref();
    return false;
  }
  end_ = End::concurrent;
  return true;
}

void ReadOperation::let_go() noexcept {
  core_->end_wait(*this);
  core_->drop_ref();
}

void raise_reused() { throw RuntimeError("cannot reuse already awaited read"); }

bool ReadOperation::still_waiting() noexcept {
  if (end_ != End::none) return false;
  try {
    return !attempt();
  } catch (...) {  // no memory to join what was received: the bytes stay
    core_->end_wait(*this);
    end_with(Failure(std::current_exception()));
    return false;
  }
}

void ReadOperation::cancel_wait() noexcept {
  core_->end_wait(*this);
  WaitCell::cancel_wait();
}

bool ReadOperation::end_with(Bytes bytes) noexcept {
  end_ = End::bytes;
  bytes_ = std::move(bytes);
  return true;
}

bool ReadOperation::end_with(const Failure& failure) noexcept {
  PELTON_ASSERT(end_ != End::failure);
  end_ = End::failure;
  new (&failure_) Failure(failure);
  return true;
}

bool ReadOperation::end_incomplete(Bytes partial, std::optional<std::size_t> expected) noexcept {
  end_ = End::incomplete;
  bytes_ = std::move(partial);
  has_expected_ = expected.has_value();
  number_ = expected.value_or(0);
  return true;
}

bool ReadOperation::end_overrun(const char* text, std::size_t consumed) noexcept {
  end_ = End::overrun;
  text_ = text;
  number_ = consumed;
  return true;
}

bool ReadOperation::end_value_error(const char* text) noexcept {
  end_ = End::value_error;
  text_ = text;
  return true;
}

void ReadOperation::raise() {
  check_cancelled();
  PELTON_ASSERT(end_ > End::bytes);
  switch (end_) {
    case End::incomplete:
      throw IncompleteReadError(std::move(bytes_),
                                has_expected_ ? std::optional(number_) : std::nullopt);
    case End::overrun:
      throw LimitOverrunError(text_, number_);
    case End::value_error:
      throw ValueError(text_);
    case End::concurrent:
      throw RuntimeError(std::string(name()) +
                         "() called while another coroutine is already waiting for incoming data");
    default:
      failure_.raise();
  }
}

std::error_code ReadOperation::code() {
  check_cancelled();
  PELTON_ASSERT(end_ > End::bytes);
  switch (end_) {
    case End::incomplete:
      return StreamErrc::incomplete_read;
    case End::overrun:
      return StreamErrc::limit_overrun;
    case End::concurrent:
      return StreamErrc::concurrent_read;
    case End::failure:
      return failure_.code();
    default:
      return StreamErrc::invalid_argument;
  }
}

// --- read ---

bool Read::begin() {
  if (core().exception()) return end_with(core().exception());
  return count_ == 0 && end_with(Bytes());
}

bool Read::attempt() {
  if (count_ < 0) return attempt_all();
  Chain& buffer = core().buffer();
  if (buffer.empty() && !core().eof()) return wait_for_data();
  Bytes taken = buffer.take(std::min(static_cast<std::size_t>(count_), buffer.size()));
  core().maybe_resume_transport();
  return end_with(std::move(taken));
}

/// Takes blocks of at most the limit until the end, as asyncio does: a cancel or an exception in
/// between loses the blocks that were taken.
bool Read::attempt_all() {
  Chain& buffer = core().buffer();
  if (!collected_) collected_ = std::make_unique<Chain>();
  for (;;) {
    if (!woken_ && core().exception()) return end_with(core().exception());
    if (buffer.empty() && !core().eof()) {
      woken_ = true;
      return wait_for_data();
    }
    woken_ = false;
    Bytes block = buffer.take(std::min(core().limit(), buffer.size()));
    core().maybe_resume_transport();
    if (block.empty()) break;
    collected_->append_gathering(std::move(block));
  }
  return end_with(collected_->take_all());
}

// --- read_piece ---

bool ReadPiece::begin() {
  if (core().exception()) return end_with(core().exception());
  return count_max_ == 0 && end_with(Bytes());
}

bool ReadPiece::attempt() {
  Chain& buffer = core().buffer();
  if (buffer.empty() && !core().eof()) return wait_for_data();
  Bytes taken = buffer.take_piece(count_max_);
  core().maybe_resume_transport();
  return end_with(std::move(taken));
}

// --- readexactly ---

bool ReadExactly::begin() {
  if (count_ < 0) return end_value_error("readexactly size can not be less than zero");
  if (core().exception()) return end_with(core().exception());
  return count_ == 0 && end_with(Bytes());
}

bool ReadExactly::attempt() {
  Chain& buffer = core().buffer();
  const auto count = static_cast<std::size_t>(count_);
  if (buffer.size() < count) {
    if (core().eof()) return end_incomplete(buffer.take_all(), count);
    return wait_for_data();
  }
  Bytes taken = buffer.take(count);
  core().maybe_resume_transport();
  return end_with(std::move(taken));
}

// --- readuntil ---

bool ReadUntilBase::check_begin() {
  if (shortest() == 0) return end_value_error("Separator should be at least one-byte string");
  return core().exception() && end_with(core().exception());
}

ReadUntil::Match ReadUntil::search() const noexcept {
  const std::size_t start = core().buffer().find(separator_, offset());
  return start == Chain::npos ? Match() : Match{start, start + separator_.size()};
}

ReadUntilAny::ReadUntilAny(ReaderCore& core, std::vector<std::string_view> separators)
    : ReadUntilBase(core), separators_(std::move(separators)) {
  std::ranges::sort(separators_, {}, &std::string_view::size);
}

bool ReadUntilAny::begin() {
  if (separators_.empty()) {
    return end_value_error("Separator should contain at least one element");
  }
  return check_begin();
}

ReadUntilAny::Match ReadUntilAny::search() const noexcept {
  Match best;
  for (const std::string_view separator : separators_) {
    const std::size_t start = core().buffer().find(separator, offset());
    if (start != Chain::npos && start + separator.size() < best.end) {
      best = {start, start + separator.size()};
    }
  }
  return best;
}

bool ReadUntilBase::attempt() {
  const Chain& buffer = core().buffer();
  // A concurrent read may have shortened the buffer below what was searched already.
  if (buffer.size() >= offset_ && buffer.size() - offset_ >= shortest()) {
    const Match match = search();
    if (match.end != Chain::npos) return take_match(match);
    offset_ = buffer.size() + 1 - std::min(buffer.size() + 1, longest());
    if (offset_ > core().limit()) return end_overrun(not_found_text, offset_);
  }
  if (core().eof()) return end_incomplete(core().buffer().take_all(), std::nullopt);
  return wait_for_data();
}

bool ReadUntilBase::take_match(const Match& match) {
  if (match.start > core().limit()) return end_overrun(too_long_text, match.start);
  Bytes taken = core().buffer().take(match.end);
  core().maybe_resume_transport();
  return end_with(std::move(taken));
}

// --- readline ---

bool ReadLine::finish(bool ended) {
  if (!ended) return false;
  if (end() == End::incomplete) return end_with(std::move(bytes()));
  if (end() != End::overrun) return true;
  Chain& buffer = core().buffer();
  if (buffer.matches(number(), "\n")) {
    buffer.drop(number() + 1);
  } else {
    buffer.clear();
  }
  core().maybe_resume_transport();
  return end_value_error(text());
}

}  // namespace pelton::detail
