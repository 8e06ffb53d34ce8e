// The parts of StreamReader that are not forwarded inline. See reader.hpp.
#include <pelton/stream/reader.hpp>

#include <pelton/engine/loop.hpp>

namespace pelton {

StreamReader::StreamReader(std::size_t limit) : StreamReader(limit, Loop::running()) {}

StreamReader::StreamReader(std::size_t limit, Loop&) : core_(make_ref<detail::ReaderCore>(limit)) {}

std::string StreamReader::to_string() const {
  std::string text = "<StreamReader";
  if (buffered() > 0) text += " " + std::to_string(buffered()) + " bytes";
  if (core_->eof()) text += " eof";
  if (limit() != stream_limit_default) text += " limit=" + std::to_string(limit());
  if (core_->waited_for()) text += " waiter=<pending>";
  if (exception()) text += " exception=" + exception().message();
  if (core_->transport()) text += " transport=<Transport>";
  if (paused()) text += " paused";
  return text + ">";
}

}  // namespace pelton
