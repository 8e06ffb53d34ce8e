// When a gather is done. See gather.hpp.
#include <pelton/engine/gather.hpp>

namespace pelton::detail {

GatherState::GatherState(Loop& loop, bool settle, std::vector<Ref<FutureCore>> children)
    : FutureState<void>(loop), children_(std::move(children)), settle_(settle) {}

void GatherState::watch() {
  for (const Ref<FutureCore>& child : children_) {
    child->add_done_callback(
        [self = Ref<GatherState>(this), child] { self->on_child_done(*child); });
  }
  if (children_.empty()) set_result({});
}

bool GatherState::cancel() noexcept {
  if (done()) return false;
  bool any = false;
  for (const Ref<FutureCore>& child : children_) any |= child->cancel();
  cancel_requested_ |= any;
  return any;
}

void GatherState::on_child_done(const FutureCore& child) {
  ++finished_;
  const Failure cancelled(std::make_exception_ptr(Cancelled()));
  // Asking for the failure marks it as seen: where another one came first, nobody else will.
  const Failure& failure = child.cancelled() ? cancelled : child.exception();
  if (done()) return;
  if (failure && !settle_) {
    set_exception(failure);
  } else if (finished_ == children_.size()) {
    if (cancel_requested_) {
      set_exception(cancelled);
    } else {
      set_result({});
    }
  }
}

}  // namespace pelton::detail
