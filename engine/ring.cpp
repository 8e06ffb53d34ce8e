// What a ring is, in words. See ring.hpp.
#include <pelton/engine/ring.hpp>

namespace pelton {

std::string RingInfo::features() const {
  struct Feature {
    const char* name;
    bool RingInfo::*member;
  };
  constexpr Feature all[] = {{"registered_ring_fd", &RingInfo::registered_ring_fd},
                             {"restricted", &RingInfo::restricted},
                             {"taskrun_flag", &RingInfo::taskrun_flag},
                             {"recv_multishot", &RingInfo::recv_multishot},
                             {"recv_multishot_unix", &RingInfo::recv_multishot_unix},
                             {"recv_caps", &RingInfo::recv_caps},
                             {"accept_multishot", &RingInfo::accept_multishot},
                             {"bounded_batches", &RingInfo::bounded_batches}};
  std::string text = "sq=" + std::to_string(sq_entries) + " cq=" + std::to_string(cq_entries);
  for (const Feature& feature : all) {
    text += std::string(" ") + feature.name + (this->*feature.member ? "=yes" : "=no");
  }
  return text;
}

}  // namespace pelton
