// The end of a StreamWriter's life, and its text. See writer.hpp.
#include <pelton/stream/writer.hpp>

#include <pelton/engine/log.hpp>

namespace pelton {

StreamWriter::StreamWriter(Ref<Transport> transport, Ref<StreamReaderProtocol> protocol) noexcept
    : transport_(std::move(transport)), protocol_(std::move(protocol)) {}

StreamWriter& StreamWriter::operator=(StreamWriter&& other) noexcept {
  if (this == &other) return *this;
  let_go();
  transport_ = std::move(other.transport_);
  protocol_ = std::move(other.protocol_);
  return *this;
}

StreamWriter::~StreamWriter() { let_go(); }

void StreamWriter::let_go() noexcept {
  if (!transport_ || transport_->is_closing()) return;
  if (protocol_->loop().is_closed()) return;  // the loop ends its transports, with a warning
  transport_->close();
  warn_resource("unclosed <StreamWriter>");
}

std::string StreamWriter::to_string() const {
  std::string text = "<StreamWriter transport=<Transport>";
  if (protocol_) text += " reader=" + StreamReader(protocol_->reader()).to_string();
  return text + ">";
}

}  // namespace pelton
