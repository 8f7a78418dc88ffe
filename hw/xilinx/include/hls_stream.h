// As much of the vendor's hls::stream as the HLS kernels use, for compilers of this machine: a
// queue without end, because the parts of a dataflow run one after the other here. Vitis HLS brings
// its own header of this name.
#ifndef EDGESCALE_HLS_STREAM_H
#define EDGESCALE_HLS_STREAM_H

#include <cstdio>
#include <cstdlib>

namespace hls
{
// Items are plain data. No container of the standard library: its header takes longer to compile
// than most kernels.
template <typename T> class stream {
    T *items = nullptr;
    std::size_t room = 0, written = 0, next = 0;

    static void demand(bool holds, const char *otherwise)
    {
        if (!holds) {
            std::fprintf(stderr, "%s\n", otherwise);
            std::abort();
        }
    }

  public:
    stream() {}
    explicit stream(const char *) {}
    ~stream()
    {
        // What nobody reads would let a circuit wait for ever.
        demand(empty(), "a stream is left with data in it");
        std::free(items);
    }
    stream(const stream &) = delete;
    stream &operator=(const stream &) = delete;
    void write(const T &item)
    {
        if (written == room) {
            room = room ? 2 * room : 64;
            items = static_cast<T *>(std::realloc(items, room * sizeof(T)));
            demand(items, "no memory for a stream");
        }
        items[written++] = item;
    }
    T read()
    {
        demand(!empty(), "a stream is read with no data in it");
        return items[next++];
    }
    bool empty() const { return next == written; }
};
} // namespace hls

#endif
