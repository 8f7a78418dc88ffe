// The form of rearrange.cl for FPGA cards: a byte each clock. It goes over the result in tiles:
// what a tile takes of the source lies near together whichever way it is turned, so that it comes
// in bursts, and pixels are picked from it in block memory.
#include "rows.hpp"

// Pixels of a tile's side at most, and rows and words of the source that are kept for it.
static const unsigned TILE = 64;
static const unsigned BOX_ROWS = 128;
static const unsigned BOX_WORDS = 1024 / NPC;

typedef long long Long;

// A coordinate of the source, as (base + by_x x + by_y y) >> shift.
struct Line {
    int base, by_x, by_y;

    Long at(unsigned x, unsigned y) const
    {
#pragma HLS INLINE
        return base + (Long)by_x * x + (Long)by_y * y;
    }
    // By how much it differs at most within a square of so many pixels a side.
    Long spread(unsigned side, unsigned shift) const
    {
        Long a = by_x < 0 ? -(Long)by_x : by_x, b = by_y < 0 ? -(Long)by_y : by_y;
        return (((a + b) * (side - 1)) >> shift) + 1;
    }
};

// Pixels from `first` on.
struct Span {
    unsigned first, count;

    bool has(Long at) const { return at >= (Long)first && at - first < (Long)count; }
};

// The columns or rows of the source, of which there are n, that a tile takes.
static Span span_of(Line line, Span xs, Span ys, unsigned shift, unsigned n)
{
    Long corner = line.at(xs.first, ys.first);
    Long across = (Long)line.by_x * (xs.count - 1), down = (Long)line.by_y * (ys.count - 1);
    Long first = (corner + (across < 0 ? across : 0) + (down < 0 ? down : 0)) >> shift;
    Long last = (corner + (across < 0 ? 0 : across) + (down < 0 ? 0 : down)) >> shift;
    first = first < 0 ? 0 : first;
    last = last < (Long)n ? last : (Long)n - 1;
    Span span = {0, 0};
    if (first <= last) {
        span.first = (unsigned)first;
        span.count = (unsigned)(last - first + 1);
    }
    return span;
}

// The part of the source that a tile takes; `start` is where its first pixel lies.
struct Box {
    Span columns, rows;
    unsigned start, stride, step, bytes;

    unsigned row_bytes() const { return columns.count ? (columns.count - 1) * step + bytes : 0; }
};

// Words of memory as they lie there: a row begins at any byte of its first.
static void load(const Word *src, Word kept[BOX_ROWS][BOX_WORDS], Box box)
{
    for (unsigned y = 0; y < box.rows.count && box.columns.count != 0; y++) {
        unsigned at = box.start + y * box.stride;
        for (unsigned g = 0; g < words(at % NPC + box.row_bytes()); g++) {
#pragma HLS PIPELINE II = 1
            kept[y][g] = src[at / NPC + g];
        }
    }
}

static void pick(const Word kept[BOX_ROWS][BOX_WORDS], Numbers &out, Box box, Line to_x,
                 Line to_y, Span xs, Span ys, unsigned shift, unsigned fill)
{
    for (unsigned y = 0; y < ys.count; y++) {
        for (unsigned x = 0; x < xs.count; x++) {
#pragma HLS PIPELINE II = 1
            Long from_x = to_x.at(xs.first + x, ys.first + y) >> shift;
            Long from_y = to_y.at(xs.first + x, ys.first + y) >> shift;
            unsigned pixel = fill;
            if (box.columns.has(from_x) && box.rows.has(from_y)) {
                unsigned row = (unsigned)from_y - box.rows.first;
                unsigned at = (box.start + row * box.stride) % NPC;
                at += ((unsigned)from_x - box.columns.first) * box.step;
                Word here = kept[row][at / NPC], next = kept[row][(at + box.bytes - 1) / NPC];
                pixel = 0;
                for (unsigned i = 0; i < 4; i++) {
#pragma HLS UNROLL
                    if (i < box.bytes)
                        pixel |= (unsigned)lane_of_two(here, next, at % NPC + i) << 8 * i;
                }
            }
            out.write(pixel);
        }
    }
}

// Pixels behind each other.
static void put(Numbers &in, ap_uint<8> *to, unsigned count, unsigned bytes)
{
    unsigned pixel = 0, byte = 0;
    for (unsigned i = 0; i < count * bytes; i++) {
#pragma HLS PIPELINE II = 1
        pixel = byte == 0 ? in.read() : pixel >> 8;
        to[i] = pixel & 255;
        byte = byte + 1 == bytes ? 0 : byte + 1;
    }
}

static void store(Numbers &in, ap_uint<8> *dst, unsigned start, unsigned stride, unsigned step,
                  unsigned columns, unsigned rows, unsigned bytes)
{
    for (unsigned y = 0; y < rows; y++) {
        ap_uint<8> *row = dst + start + y * stride;
        if (step == bytes) {
            put(in, row, columns, bytes);
            continue;
        }
        for (unsigned x = 0; x < columns; x++)
            put(in, row + x * step, 1, bytes);
    }
}

static void move(const Word *src, ap_uint<8> *dst, Box box, Line to_x, Line to_y, Span xs,
                 Span ys, unsigned dst_start, unsigned dst_stride, unsigned dst_step,
                 unsigned shift, unsigned fill)
{
#pragma HLS DATAFLOW
    Word kept[BOX_ROWS][BOX_WORDS];
    Numbers pixels("pixels");
#pragma HLS STREAM variable = pixels depth = 64
    load(src, kept, box);
    pick(kept, pixels, box, to_x, to_y, xs, ys, shift, fill);
    store(pixels, dst, dst_start, dst_stride, dst_step, xs.count, ys.count, box.bytes);
}

// The largest tile of which the source always fits; of one pixel it does.
static unsigned tile_side(Line to_x, Line to_y, unsigned step, unsigned bytes, unsigned shift)
{
    unsigned side = TILE;
    for (; side > 1; side /= 2) {
        Long across = to_x.spread(side, shift) * step + bytes + NPC - 1;
        if (across <= (Long)(BOX_WORDS * NPC) && to_y.spread(side, shift) < (Long)BOX_ROWS)
            break;
    }
    return side;
}

extern "C" void rearrange(const Word *src, ap_uint<8> *dst, unsigned src_offset,
                          unsigned src_stride, unsigned src_width, unsigned src_height,
                          unsigned src_step, unsigned dst_offset, unsigned dst_stride,
                          unsigned width, unsigned height, unsigned dst_step, unsigned bytes,
                          int x0, int ax, int bx, int y0, int ay, int by, unsigned shift,
                          unsigned fill)
{
#pragma HLS INTERFACE m_axi port = src bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = dst bundle = gmem1 offset = slave
#pragma HLS INTERFACE s_axilite port = src_offset
#pragma HLS INTERFACE s_axilite port = src_stride
#pragma HLS INTERFACE s_axilite port = src_width
#pragma HLS INTERFACE s_axilite port = src_height
#pragma HLS INTERFACE s_axilite port = src_step
#pragma HLS INTERFACE s_axilite port = dst_offset
#pragma HLS INTERFACE s_axilite port = dst_stride
#pragma HLS INTERFACE s_axilite port = width
#pragma HLS INTERFACE s_axilite port = height
#pragma HLS INTERFACE s_axilite port = dst_step
#pragma HLS INTERFACE s_axilite port = bytes
#pragma HLS INTERFACE s_axilite port = x0
#pragma HLS INTERFACE s_axilite port = ax
#pragma HLS INTERFACE s_axilite port = bx
#pragma HLS INTERFACE s_axilite port = y0
#pragma HLS INTERFACE s_axilite port = ay
#pragma HLS INTERFACE s_axilite port = by
#pragma HLS INTERFACE s_axilite port = shift
#pragma HLS INTERFACE s_axilite port = fill
#pragma HLS INTERFACE s_axilite port = return
    Line to_x = {x0, ax, bx}, to_y = {y0, ay, by};
    unsigned side = tile_side(to_x, to_y, src_step, bytes, shift);
    for (unsigned y = 0; y < height; y += side) {
        for (unsigned x = 0; x < width; x += side) {
            Span xs = {x, width - x < side ? width - x : side};
            Span ys = {y, height - y < side ? height - y : side};
            Box box = {span_of(to_x, xs, ys, shift, src_width),
                       span_of(to_y, xs, ys, shift, src_height),
                       src_offset,
                       src_stride,
                       src_step,
                       bytes};
            box.start += box.rows.first * src_stride + box.columns.first * src_step;
            move(src, dst, box, to_x, to_y, xs, ys, dst_offset + y * dst_stride + x * dst_step,
                 dst_stride, dst_step, shift, fill);
        }
    }
}
