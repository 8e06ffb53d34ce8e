// Intrusive building blocks: reference counts and lists whose links lie in their members.
//
// Everything here belongs to one loop and so to one thread: counts are plain integers. A Ref is
// an owning pointer to a RefCounted object; a List never owns what it links.
//
// Neighbours: op.hpp, waiter.hpp, future.hpp and proto's transports are built on these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <pelton/engine/assert.hpp>

namespace pelton {

/// Base of objects that live as long as a Ref to them does. Not thread-safe.
class RefCounted {
 public:
  RefCounted() noexcept = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  void add_ref() const noexcept { ++refs_; }
  void drop_ref() const noexcept {
    PELTON_ASSERT(refs_ > 0);
    if (--refs_ == 0) delete this;
  }
  [[nodiscard]] std::uint32_t ref_count() const noexcept { return refs_; }

 protected:
  virtual ~RefCounted() = default;

 private:
  mutable std::uint32_t refs_ = 0;
};

/// Owning pointer to a RefCounted object; may be null.
template <class T>
class Ref {
 public:
  Ref() noexcept = default;
  Ref(std::nullptr_t) noexcept {}
  explicit Ref(T* object) noexcept : object_(object) {
    if (object_) object_->add_ref();
  }
  Ref(const Ref& other) noexcept : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  template <class U>
  requires std::is_convertible_v<U*, T*> Ref(const Ref<U>& other)
  noexcept : Ref(other.get()) {}
  ~Ref() { reset(); }
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }

  void reset() noexcept {
    if (T* object = std::exchange(object_, nullptr)) object->drop_ref();
  }
  [[nodiscard]] T* get() const noexcept { return object_; }
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  friend bool operator==(const Ref& a, const Ref& b) noexcept { return a.object_ == b.object_; }

 private:
  T* object_ = nullptr;
};

template <class T, class... Args>
Ref<T> make_ref(Args&&... args) {
  return Ref<T>(new T(std::forward<Args>(args)...));
}

/// A link of a List. A node unlinks itself when it dies. `Tag` lets one object be in two lists.
template <class Tag = void>
class ListNode {
 public:
  ListNode() noexcept = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { unlink(); }

  [[nodiscard]] bool linked() const noexcept { return next_ != nullptr; }
  void unlink() noexcept {
    if (!next_) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    prev_ = next_ = nullptr;
  }

 private:
  template <class T, class U>
  friend class List;
  ListNode* prev_ = nullptr;
  ListNode* next_ = nullptr;
};

/// A circular list of T, which derives from ListNode<Tag>. Owns nothing; must be empty or outlived
/// by its members' unlinking when it dies (its destructor unlinks them).
template <class T, class Tag = void>
class List {
 public:
  List() noexcept { root_.prev_ = root_.next_ = &root_; }
  ~List() {
    while (!empty()) root_.next_->unlink();
    root_.prev_ = root_.next_ = nullptr;
  }

  [[nodiscard]] bool empty() const noexcept { return root_.next_ == &root_; }
  void push_back(T& item) noexcept { insert_before(root_, item); }
  void push_front(T& item) noexcept { insert_before(*root_.next_, item); }
  [[nodiscard]] T& front() noexcept { return static_cast<T&>(*root_.next_); }
  [[nodiscard]] T& back() noexcept { return static_cast<T&>(*root_.prev_); }
  [[nodiscard]] T* pop_front() noexcept {
    if (empty()) return nullptr;
    ListNode<Tag>* node = root_.next_;
    node->unlink();
    return static_cast<T*>(node);
  }
  /// Moves every member of `other` behind the members of this list. Constant time.
  void splice_back(List& other) noexcept {
    if (other.empty()) return;
    ListNode<Tag>* const first = other.root_.next_;
    ListNode<Tag>* const last = other.root_.prev_;
    other.root_.prev_ = other.root_.next_ = &other.root_;
    first->prev_ = root_.prev_;
    root_.prev_->next_ = first;
    last->next_ = &root_;
    root_.prev_ = last;
  }
  /// Calls `visit(T&)` for each member that is linked when its turn comes; `visit` may unlink and
  /// destroy any of them. Members that it adds are not visited.
  template <class Visit>
  void for_each(Visit&& visit) {
    List rest;
    rest.splice_back(*this);
    while (T* item = rest.pop_front()) {
      push_back(*item);
      visit(*item);
    }
  }
  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t count = 0;
    for (ListNode<Tag>* node = root_.next_; node != &root_; node = node->next_) ++count;
    return count;
  }

 private:
  void insert_before(ListNode<Tag>& place, T& item) noexcept {
    ListNode<Tag>& node = item;
    PELTON_ASSERT(!node.linked());
    node.prev_ = place.prev_;
    node.next_ = &place;
    place.prev_->next_ = &node;
    place.prev_ = &node;
  }
  ListNode<Tag> root_;
};

}  // namespace pelton
