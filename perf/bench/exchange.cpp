// Sending, verifying and timing. See exchange.hpp.
#include "perf/bench/exchange.hpp"

#include <algorithm>
#include <bit>

#include <pelton/proto/socket_transport.hpp>

namespace pelton::bench {
namespace {

Pattern request_pattern(const Options& options) {
  if (options.ping) return Pattern::repeated("*1\r\n$4\r\nPING\r\n");
  if (options.mode == Mode::lines) return Pattern::lines(options.size);
  return Pattern::bytes(options.size);
}

}  // namespace

Patterns::Patterns(const Options& options)
    : request(request_pattern(options)),
      reply(options.ping ? Pattern::repeated("+PONG\r\n") : request),
      request_bytes(options.size),
      reply_bytes(options.ping ? 7 : options.size) {}

// --- Link ---

Link::Link(Exchange& exchange, std::uint32_t index)
    : exchange_(exchange),
      index_(index),
      number_(exchange.context_.first_number + index * exchange.context_.number_stride) {
  send_at_ = exchange.context_.patterns.request.start_of(number_);
  receive_at_ = exchange.context_.patterns.reply.start_of(number_);
}

void Link::connection_made(Transport& transport) {
  transport_ = Ref<Transport>(&transport);
  ++exchange_.made_;
  ++exchange_.context_.signs_of_life;
}

void Link::data_received(Bytes data) {
  const TimePoint now = Clock::now();
  ++exchange_.context_.signs_of_life;
  if (!verify(data.view())) return;
  receive_at_ = exchange_.context_.patterns.reply.after(receive_at_, data.size());
  complete(now, data.size());
}

/// Compares what came with what was sent; on a difference it ends the run.
bool Link::verify(std::string_view data) {
  const Patterns& patterns = exchange_.context_.patterns;
  const std::size_t expected = in_flight() * patterns.reply_bytes - partial_;
  const bool excess = data.size() > expected;
  if (!excess && patterns.reply.matches(receive_at_, data)) return true;
  const std::string_view due = data.substr(0, std::min(data.size(), expected));
  if (const auto difference = patterns.reply.difference(receive_at_, due)) {
    const std::uint64_t offset = done_ * patterns.reply_bytes + partial_ + difference->offset;
    break_off("wrong bytes at offset " + std::to_string(offset) + " (message " +
              std::to_string(offset / patterns.reply_bytes) + ", byte " +
              std::to_string(offset % patterns.reply_bytes) + " of it): expected " +
              hex(difference->expected) + ", got " + hex(difference->got));
  } else {
    break_off("the server sent " + std::to_string(data.size() - expected) +
              " bytes more than it was given, from offset " +
              std::to_string(done_ * patterns.reply_bytes + partial_ + expected) + " on: got " +
              hex(data.substr(expected, 8)));
  }
  return false;
}

/// Counts the messages that end in these bytes, and sends what has become due.
void Link::complete(TimePoint now, std::size_t size) {
  ThreadContext& context = exchange_.context_;
  const std::size_t reply_bytes = context.patterns.reply_bytes;
  const std::uint64_t before = done_;
  partial_ += size;
  if (context.options.mode == Mode::stream) {
    done_ += partial_ / reply_bytes;
    partial_ %= reply_bytes;
  }
  for (; partial_ >= reply_bytes; partial_ -= reply_bytes) {
    if (context.options.open_loop()) {
      const TimePoint due = exchange_.due_time(number_, done_);
      context.record(due, now - due);
    } else {
      context.record(now, now - exchange_.send_time(index_, done_));
    }
    ++done_;
  }
  const std::uint64_t completed = done_ - before;
  exchange_.in_flight_ -= completed;
  context.count(now, completed, size);
  if (exchange_.renews_) due_ += completed;
  if (due_ != sent_) send_due();
}

void Link::send_due() {
  const ThreadContext& context = exchange_.context_;
  if (context.ending || !transport_) return;
  const std::uint64_t room = context.options.pipeline - in_flight();
  if (const std::uint64_t count = std::min(due_ - sent_, room)) send(count);
}

void Link::send(std::uint64_t count) {
  const Patterns& patterns = exchange_.context_.patterns;
  if (!exchange_.send_times_.empty()) {
    const TimePoint now = Clock::now();
    for (std::uint64_t index = 0; index < count; ++index) {
      exchange_.send_time(index_, sent_ + index) = now;
    }
  }
  sent_ += count;
  exchange_.in_flight_ += count;
  for (std::size_t left = count * patterns.request_bytes; left > 0;) {
    const std::string_view piece = patterns.request.at(send_at_, left);
    send_at_ = patterns.request.after(send_at_, piece.size());
    left -= piece.size();
    transport_->write(Bytes::from_static(piece));
  }
}

void Link::fill() {
  while (!paused_ && !exchange_.context_.ending && transport_) {
    ++due_;
    send(1);
  }
}

void Link::resume_writing() {
  paused_ = false;
  if (exchange_.options().mode == Mode::stream) fill();
}

bool Link::eof_received() {
  break_off("the server closed it");
  return false;
}

void Link::connection_lost(const Failure& failure) {
  transport_.reset();
  ++exchange_.lost_;
  ++exchange_.context_.signs_of_life;
  if (failure) break_off(failure.message());
}

/// The run cannot go on, because of this connection.
void Link::break_off(const std::string& what) {
  if (exchange_.closing_) return;
  exchange_.context_.ending = true;
  exchange_.context_.fail("connection " + std::to_string(number_) + ", after " +
                          std::to_string(done_) + " answers: " + what);
  abort();
}

void Link::close() noexcept {
  if (transport_) transport_->close();
}

void Link::abort() noexcept {
  if (transport_) transport_->abort();
}

// --- Exchange ---

Exchange::Exchange(ThreadContext& context, unsigned link_count)
    : context_(context),
      links_(link_count),
      send_times_each_(std::bit_ceil(std::size_t{context.options.pipeline})) {
  const bool open_loop = context.options.open_loop();
  const bool stream = context.options.mode == Mode::stream;
  renews_ = !open_loop && !stream && context.options.mode != Mode::idle;
  if (open_loop) interval_ns_ = 1e9 / context.options.rate;
  if (!open_loop && !stream) send_times_.resize(link_count * send_times_each_);
}

void Exchange::adopt(Loop& loop, unsigned index, OwnedFd socket) {
  links_[index] = make_ref<Link>(*this, index);
  SocketTransport::open(loop, std::move(socket), links_[index]);
}

void Exchange::start() {
  for (const Ref<Link>& link : links_) {
    if (renews_) link->allow(options().pipeline);
    if (options().mode == Mode::stream) link->fill();
  }
}

TimePoint Exchange::due_time(unsigned number, std::uint64_t message) const noexcept {
  const double slot = static_cast<double>(message) * options().connections + number;
  return context_.start + std::chrono::nanoseconds(static_cast<std::int64_t>(slot * interval_ns_));
}

Task<> Exchange::pace() {
  std::uint64_t round = 0;
  std::size_t index = 0;
  while (!context_.ending) {
    const TimePoint now = Clock::now();
    TimePoint next = due_time(links_[index]->number(), round);
    while (next <= now && next < context_.window.end) {
      links_[index]->allow(1);
      if (++index == links_.size()) {
        index = 0;
        ++round;
      }
      next = due_time(links_[index]->number(), round);
    }
    if (next >= context_.window.end) co_return;
    co_await sleep(next - now);
  }
}

void Exchange::allow_each() {
  for (const Ref<Link>& link : links_) link->allow(1);
}

bool Exchange::behind() const noexcept {
  const auto is_behind = [](const Ref<Link>& link) { return link && link->sent() < link->due(); };
  return options().open_loop() && std::ranges::any_of(links_, is_behind);
}

void Exchange::record_unsent(TimePoint now) {
  if (!options().open_loop()) return;
  for (const Ref<Link>& link : links_) {
    for (std::uint64_t message = link->sent(); message < link->due(); ++message) {
      const TimePoint due = due_time(link->number(), message);
      context_.record(due, now - due);
      if (context_.window.contains(due)) ++context_.tally.unsent;
    }
  }
}

void Exchange::close() {
  closing_ = true;
  for (const Ref<Link>& link : links_) {
    if (link) link->close();
  }
}

void Exchange::abort() {
  closing_ = true;
  for (const Ref<Link>& link : links_) {
    if (link) link->abort();
  }
}

std::string Exchange::describe_waiting() const {
  for (const Ref<Link>& link : links_) {
    if (!link || link->in_flight() == 0) continue;
    return "connection " + std::to_string(link->number()) + " waits for the answer to message " +
           std::to_string(link->done());
  }
  return "no connection waits for an answer";
}

}  // namespace pelton::bench
