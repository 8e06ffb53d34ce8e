// RecordingTransport: a transport without a socket that remembers what it was asked.
//
// Tests of readers and writers put it below a StreamReaderProtocol and play the loop's part by
// hand: they call the protocol, and look at what the stream then asked of its transport.
//
// Neighbours: proto/transport.hpp, the interface; the tests of stream/.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <pelton/proto/flow_control.hpp>
#include <pelton/proto/transport.hpp>

namespace pelton::test {

class RecordingTransport final : public Transport {
 public:
  [[nodiscard]] bool is_closing() const noexcept override { return closing; }
  void close() noexcept override {
    ++closes;
    closing = true;
  }
  [[nodiscard]] ExtraInfo get_extra_info(std::string_view name, ExtraInfo fallback) const override {
    return name == "socket" ? ExtraInfo(7) : fallback;
  }
  void set_protocol(Ref<Protocol> protocol) noexcept override { protocol_ = std::move(protocol); }
  [[nodiscard]] Protocol* get_protocol() const noexcept override { return protocol_.get(); }

  [[nodiscard]] bool can_pause_reading() const noexcept override { return pausable; }
  [[nodiscard]] bool is_reading() const noexcept override { return reading; }
  void pause_reading() noexcept override {
    ++pauses;
    reading = false;
  }
  void resume_reading() noexcept override {
    ++resumes;
    reading = true;
  }

  void write(Bytes data) override {
    written += data.view();
    pieces.push_back(std::move(data));
  }
  void write_copy(std::span<const std::byte> data) override {
    written.append(reinterpret_cast<const char*>(data.data()), data.size());
  }
  [[nodiscard]] bool can_write_eof() const noexcept override { return half_closes; }
  void write_eof() override {
    eof_written = true;
    if (on_write_eof) on_write_eof();
  }
  void abort() noexcept override {
    ++aborts;
    closing = true;
  }
  void set_write_buffer_limits(std::optional<std::size_t> high,
                               std::optional<std::size_t> low) override {
    flow_.set_limits(high, low);
  }
  [[nodiscard]] std::size_t get_write_buffer_size() const noexcept override { return 0; }
  [[nodiscard]] WriteLimits get_write_buffer_limits() const noexcept override {
    return {flow_.low(), flow_.high()};
  }

  bool closing = false;
  bool pausable = true;
  bool reading = true;
  bool half_closes = true;
  bool eof_written = false;
  std::function<void()> on_write_eof;
  int closes = 0;
  int aborts = 0;
  int pauses = 0;
  int resumes = 0;
  std::string written;
  std::vector<Bytes> pieces;  ///< of `written`, those that were handed over by reference

 private:
  WriteFlow flow_;
  Ref<Protocol> protocol_;
};

}  // namespace pelton::test
