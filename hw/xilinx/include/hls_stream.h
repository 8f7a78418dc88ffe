// As much of the vendor's hls::stream as the HLS kernels use, for compilers of this machine: a
// queue without end, because the parts of a dataflow run one after the other here. Vitis HLS brings
// its own header of this name.
#ifndef EDGESCALE_HLS_STREAM_H
#define EDGESCALE_HLS_STREAM_H

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace hls
{
template <typename T> class stream {
    std::vector<T> items;
    std::size_t next = 0;

  public:
    stream() {}
    explicit stream(const char *) {}
    // What nobody reads would let a circuit wait for ever.
    ~stream()
    {
        if (!empty()) {
            std::fprintf(stderr, "a stream is left with data in it\n");
            std::abort();
        }
    }
    stream(const stream &) = delete;
    stream &operator=(const stream &) = delete;
    void write(const T &item) { items.push_back(item); }
    T read() { return items.at(next++); }
    bool empty() const { return next == items.size(); }
};
} // namespace hls

#endif
