// Get the headers of a web page: asyncio's documented example, with pelton, over plain HTTP.
//
//   example_http_headers http://HOST[:PORT][/PATH]
#include <cstdio>
#include <exception>
#include <string>

#include <pelton/stream.hpp>

namespace {

struct Url {
  explicit Url(const std::string& text) {
    const std::string scheme = "http://";
    if (!text.starts_with(scheme)) {
      throw pelton::ValueError("cannot fetch '" + text + "': expected http://HOST[:PORT][/PATH]");
    }
    const std::size_t slash = text.find('/', scheme.size());
    const std::string place = text.substr(scheme.size(), slash - scheme.size());
    const pelton::Endpoint endpoint =
        pelton::Endpoint::parse(place.find(':') == std::string::npos ? place + ":80" : place);
    host = endpoint.host;
    port = endpoint.port;
    if (slash != std::string::npos) path = text.substr(slash);
  }
  std::string host;
  std::uint16_t port = 80;
  std::string path = "/";
};

pelton::Task<> print_http_headers(Url url) {
  auto [reader, writer] = co_await pelton::open_connection(url.host, url.port);
  writer.write("HEAD " + url.path + " HTTP/1.0\r\nHost: " + url.host + "\r\n\r\n");
  while (const pelton::Bytes line = co_await reader.readline()) {
    std::string text = line.to_string();
    text.erase(text.find_last_not_of("\r\n") + 1);
    if (!text.empty()) std::printf("HTTP header> %s\n", text.c_str());
  }
  writer.close();  // the body is not wanted
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s http://HOST[:PORT][/PATH]\n", arguments[0]);
    return 2;
  }
  try {
    return pelton::run(print_http_headers(Url(arguments[1])));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", arguments[0], error.what());
    return 1;
  }
}
