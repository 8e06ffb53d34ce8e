// stream_oracle: drives one StreamReader by commands on standard input and prints what happens.
//
// The same commands and the same output as cpython_oracle.py, which does it over CPython's
// asyncio; compare.py feeds both with random scripts and compares the outputs to the letter.
//
//   new LIMIT | feed HEX | eof | exception TEXT | read N | readline | readexactly N
//   readuntil HEX[,HEX...] | cancel
//
// After each command the loop runs until idle; then every read that ended prints its outcome, in
// order, and one line tells the state.
#include <cstdio>
#include <iostream>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include <pelton/stream.hpp>

namespace {

using pelton::Bytes;
using pelton::Loop;
using pelton::StreamReader;
using pelton::Task;
using pelton::TaskHandle;

/// Records whether the reader has paused it.
class RecordingTransport final : public pelton::Transport {
 public:
  [[nodiscard]] bool is_closing() const noexcept override { return false; }
  void close() noexcept override {}
  void set_protocol(pelton::Ref<pelton::Protocol>) noexcept override {}
  [[nodiscard]] pelton::Protocol* get_protocol() const noexcept override { return nullptr; }
  [[nodiscard]] bool is_reading() const noexcept override { return !paused; }
  void pause_reading() noexcept override { paused = true; }
  void resume_reading() noexcept override { paused = false; }
  void write(Bytes) override {}
  void write_copy(std::span<const std::byte>) override {}
  [[nodiscard]] bool can_write_eof() const noexcept override { return false; }
  void write_eof() override {}
  void abort() noexcept override {}
  void set_write_buffer_limits(std::optional<std::size_t>, std::optional<std::size_t>) override {}
  [[nodiscard]] std::size_t get_write_buffer_size() const noexcept override { return 0; }
  [[nodiscard]] WriteLimits get_write_buffer_limits() const noexcept override { return {0, 0}; }

  bool paused = false;
};

std::string to_hex(std::string_view data) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string hex;
  for (const char byte : data) {
    const auto value = static_cast<unsigned char>(byte);
    hex += digits[value >> 4];
    hex += digits[value & 15];
  }
  return hex;
}

std::string from_hex(std::string_view hex) {
  std::string data;
  for (std::size_t place = 0; place + 1 < hex.size(); place += 2) {
    data += static_cast<char>(std::stoi(std::string(hex.substr(place, 2)), nullptr, 16));
  }
  return data;
}

struct Command {
  explicit Command(const std::string& line) {
    const std::size_t space = line.find(' ');
    name = line.substr(0, space);
    if (space != std::string::npos) argument = line.substr(space + 1);
  }
  [[nodiscard]] long number() const { return argument.empty() ? -1 : std::stol(argument); }
  std::string name;
  std::string argument;
};

std::vector<std::string> separators_of(const std::string& argument) {
  std::vector<std::string> separators;
  std::size_t start = 0;
  for (;;) {
    const std::size_t comma = argument.find(',', start);
    separators.push_back(from_hex(argument.substr(start, comma - start)));
    if (comma == std::string::npos) return separators;
    start = comma + 1;
  }
}

Task<Bytes> perform(StreamReader reader, Command command) {
  if (command.name == "read") co_return co_await reader.read(command.number());
  if (command.name == "readline") co_return co_await reader.readline();
  if (command.name == "readexactly") co_return co_await reader.readexactly(command.number());
  const std::vector<std::string> separators = separators_of(command.argument);
  if (separators.size() == 1) co_return co_await reader.readuntil(separators.front());
  const std::vector<std::string_view> views(separators.begin(), separators.end());
  co_return co_await reader.readuntil(views);
}

void print_error(const char* name, const std::string& text) {
  std::printf("! %s %s\n", name, text.c_str());
}

/// One read as a task that prints its outcome, unless it was told to be silent.
Task<> read_and_print(StreamReader reader, Command command, std::shared_ptr<bool> silent) {
  try {
    const Bytes bytes = co_await perform(std::move(reader), std::move(command));
    std::printf(bytes ? "< %s\n" : "<%s\n", to_hex(bytes).c_str());
  } catch (const pelton::IncompleteReadError& error) {
    print_error("IncompleteReadError",
                to_hex(error.partial()) + " " +
                    (error.expected() ? std::to_string(*error.expected()) : "undefined"));
  } catch (const pelton::LimitOverrunError& error) {
    print_error("LimitOverrunError", std::to_string(error.consumed()) + " " + error.what());
  } catch (const pelton::ValueError& error) {
    print_error("ValueError", error.what());
  } catch (const pelton::ConnectionResetError& error) {
    print_error("ConnectionResetError", error.what());
  } catch (const pelton::RuntimeError& error) {
    print_error("RuntimeError", error.what());
  } catch (const pelton::Cancelled&) {
    if (!*silent) std::puts("! Cancelled");
  }
}

class Oracle {
 public:
  void run() {
    for (std::string line; std::getline(std::cin, line);) {
      if (line.empty() || line.front() == '#') continue;
      const Command command(line);
      try {
        execute(command);
      } catch (const pelton::ValueError& error) {
        print_error("ValueError", error.what());
        reader_.reset();
      }
      run_until_idle();
      print_state();
      std::fflush(stdout);
    }
    drop_reads();
  }

 private:
  struct Pending {
    TaskHandle<> task;
    std::shared_ptr<bool> silent;
  };

  void execute(const Command& command) {
    if (command.name == "new") return begin(command.number());
    if (!reader_) return;
    if (command.name == "feed") {
      feed(from_hex(command.argument));
    } else if (command.name == "eof") {
      reader_->feed_eof();
    } else if (command.name == "exception") {
      reader_->set_exception(
          std::make_exception_ptr(pelton::ConnectionResetError(command.argument)));
    } else if (command.name == "cancel") {
      if (!pending_.empty()) pending_.front().task.cancel();
    } else {
      start_read(command);
    }
  }

  void begin(long limit) {
    drop_reads();
    reader_.reset();
    if (limit <= 0) throw pelton::ValueError("Limit cannot be <= 0");
    transport_ = pelton::make_ref<RecordingTransport>();
    reader_.emplace(static_cast<std::size_t>(limit), loop_);
    reader_->set_transport(transport_);
  }

  void feed(const std::string& data) {
    if (reader_->core()->eof()) {  // what CPython asserts, pelton aborts on
      print_error("AssertionError", "feed_data after feed_eof");
    } else {
      reader_->feed_data(data);
    }
  }

  void start_read(const Command& command) {
    auto silent = std::make_shared<bool>(false);
    pending_.push_back({loop_.create_task(read_and_print(*reader_, command, silent)), silent});
  }

  void drop_reads() {
    for (const Pending& read : pending_) {
      *read.silent = true;
      read.task.cancel();
    }
    run_until_idle();
  }

  void run_until_idle() {
    for (int turn = 0; turn < 4; ++turn) loop_.run_until_complete(one_turn());
    std::erase_if(pending_, [](const Pending& read) { return read.task.done(); });
  }
  static Task<> one_turn() { co_await pelton::sleep({}); }

  void print_state() {
    const bool alive = reader_.has_value();
    std::printf("= buffered=%zu at_eof=%d paused=%d pending=%d\n", alive ? reader_->buffered() : 0,
                alive && reader_->at_eof(), alive && transport_->paused, !pending_.empty());
  }

  Loop loop_;
  pelton::Ref<RecordingTransport> transport_;
  std::optional<StreamReader> reader_;
  std::list<Pending> pending_;
};

}  // namespace

int main() {
  try {
    Oracle oracle;
    oracle.run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stream_oracle: %s\n", error.what());
    return 1;
  }
  return 0;
}
