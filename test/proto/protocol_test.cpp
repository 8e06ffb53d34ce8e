// What a protocol does that overrides only what it must.
#include <pelton/proto/protocol.hpp>

#include <doctest/doctest.h>

namespace {

using namespace pelton;

class Plain final : public Protocol {
 public:
  explicit Plain(bool& gone) : gone_(gone) {}
  ~Plain() override { gone_ = true; }
  void connection_made(Transport&) override {}
  void data_received(Bytes) override {}
  void connection_lost(const Failure&) override {}

 private:
  bool& gone_;
};

TEST_CASE("a plain protocol closes at the end of the input and ignores flow control") {
  bool gone = false;
  const Ref<Protocol> protocol = make_ref<Plain>(gone);
  CHECK_FALSE(protocol->eof_received());
  protocol->pause_writing();
  protocol->resume_writing();
  protocol->relieve_buffer_pressure();
}

TEST_CASE("a protocol lives as long as a reference to it") {
  bool gone = false;
  Ref<Protocol> first = make_ref<Plain>(gone);
  Ref<Protocol> second = first;
  first.reset();
  CHECK_FALSE(gone);
  second.reset();
  CHECK(gone);
}

}  // namespace
